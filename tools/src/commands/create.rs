//! `create`: creates an image.

use block_core::{CacheMode, CreateRequest, Disk, NewParent, OpenContext, Sharing};

use super::options::{self, CreateOptions};
use crate::args::{AllowArgs, ImageSpec, size_or_failure};
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::image::{self, OpenMode};
use crate::signals::stoppable;
use crate::target::{Target, files_of};

#[derive(clap::Args, Debug)]
pub(crate) struct CreateArgs {
    /// Format of the new image
    #[arg(short = 'f', long, value_name = "FMT", default_value = "raw")]
    format: String,
    /// Options of the format, name=value,…; 'help' lists them
    #[arg(short = 'o', long, value_name = "OPTS")]
    options: Vec<String>,
    /// Image that the new one is a child of
    #[arg(short = 'b', long, value_name = "FILE")]
    backing: Option<String>,
    /// Format of the parent
    #[arg(short = 'F', long, value_name = "FMT")]
    backing_format: Option<String>,
    /// Do not fail if the parent cannot be opened
    #[arg(short = 'u', long)]
    backing_unsafe: bool,
    /// Print nothing but errors
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Say how the file is written: whole under a new name, or in place
    #[arg(short = 'v', long)]
    verbose: bool,
    /// QEMU objects such as secrets (not supported)
    #[arg(long, value_name = "OBJDEF", hide = true)]
    object: Vec<String>,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image to create
    #[arg(value_name = "FILE", required_unless_present = "options")]
    file: Option<String>,
    /// Size of the disk
    #[arg(value_name = "SIZE", allow_hyphen_values = true)]
    size: Option<String>,
}

impl CreateArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        crate::args::NamingArgs { object: self.object.clone(), ..Default::default() }.check()?;
        let driver = options::output_driver(&cx.registry, &self.format).map_err(|failure| {
            match &self.file {
                Some(file) => about(file, failure),
                None => failure,
            }
        })?;
        let descriptor = driver.descriptor();
        if options::asks_for_help(&self.options) {
            options::help(cx, descriptor.name, descriptor.create_options, true)?;
            return Ok(0);
        }
        let Some(file) = self.file.as_deref() else {
            return Err(Failure::new("Expecting image file name"));
        };
        let size = self.size.as_deref().map(size_or_failure).transpose()?;
        let mut given = options::parse_create(&**driver, &self.options)
            .map_err(|failure| about(file, failure))?;
        given.size = size.or(given.size);
        given.backing_file = self.backing.clone().or(given.backing_file);
        given.backing_format = self.backing_format.clone().or(given.backing_format);
        cx.block_on(async {
            let parent = self.parent(cx, file, descriptor.has_parents, &given).await?;
            let size = match (given.size, &parent) {
                (Some(size), _) => size,
                (None, Some(parent)) => parent.device.sector_count().saturating_mul(512),
                (None, None) => {
                    return Err(about(file, Failure::new("Image creation needs a size parameter")));
                }
            };
            if !self.quiet {
                cx.console.line(self.formatting_line(file, size, descriptor, &given))?;
                cx.console.flush()?;
            }
            let parents = parent.as_ref().map(|parent| files_of(&Disk::new(parent.device.clone())));
            let mut request = CreateRequest::new(size).options(given.driver);
            if let Some(parent) = parent {
                request = request.parent(parent);
            }
            // As in a conversion and in `qemu-img`, nothing is flushed. A later flush of the image makes all of its
            // file durable.
            let (cache, refused) = (CacheMode::Unsafe, parents.unwrap_or_default());
            let target = Target::begin(cx, file, cache, refused, self.verbose);
            let target = target.await.map_err(|failure| about(file, failure))?;
            let how = OpenMode::reading(Sharing::Exclusive).allow(&self.allow);
            let open = OpenContext::new(cx.registry.clone()).gate(how.gate(cx).await?);
            let create = async {
                let done = driver.create(target.storage(), &request, &open).await;
                done.map_err(|error| about(file, target.explain(Failure::from(error))))
            };
            stoppable(&cx.console, create).await?;
            for warning in open.warnings() {
                cx.console.say(format_args!("warning: {file}: {warning}"));
            }
            target.finish(false)?;
            Ok(0)
        })
    }

    /// Opens the parent that the user named, if any.
    async fn parent(
        &self,
        cx: &Context,
        file: &str,
        has_parents: bool,
        given: &CreateOptions,
    ) -> Result<Option<NewParent>> {
        let Some(reference) = given.backing_file.as_deref() else { return Ok(None) };
        if !has_parents {
            return Err(about(
                file,
                Failure::new(format!(
                    "Backing file not supported for file format '{}'",
                    self.format
                )),
            ));
        }
        let spec = ImageSpec::parse(reference, false, given.backing_format.as_deref())?;
        let how = OpenMode::reading(Sharing::Exclusive).allow(&self.allow);
        let disk = image::open(cx, &spec, &how).await.map_err(|failure| {
            if self.backing_unsafe {
                failure.hint("-u does not help: a child records facts of its parent")
            } else {
                failure
            }
        })?;
        let device = disk.device().clone();
        Ok(Some(NewParent { device, reference: reference.to_owned() }))
    }

    fn formatting_line(
        &self,
        file: &str,
        size: u64,
        descriptor: &block_core::Descriptor,
        given: &CreateOptions,
    ) -> String {
        let mut line = format!("Formatting '{file}', fmt={} size={size}", descriptor.name);
        if let Some(backing) = &given.backing_file {
            line.push_str(&format!(" backing_file={backing}"));
        }
        if let Some(format) = &given.backing_format {
            line.push_str(&format!(" backing_fmt={format}"));
        }
        line.push_str(&options::shown(descriptor.create_options, &given.driver));
        line.push_str(&given.hints);
        line
    }
}

fn about(file: &str, mut failure: Failure) -> Failure {
    if !failure.message.contains("Invalid image size") {
        failure.message = format!("{file}: {}", failure.message);
    }
    failure
}
