//! Arguments that several commands share.

mod allow;
mod blkdebug;
mod cache;
mod general;
mod output;
mod size;
mod spec;

pub(crate) use allow::AllowArgs;
pub(crate) use cache::Cache;
pub(crate) use output::OutputFormat;
pub(crate) use size::{number, size, size_or_failure};
pub(crate) use spec::{ImageSpec, SpecError, engine_for};

use crate::error::{Failure, Result};
use block_core::Sharing;

/// How the images of a command are named and shared.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct NamingArgs {
    /// The image names are complete specifications (driver=…,file.filename=…)
    #[arg(long, alias = "source-image-opts")]
    pub image_opts: bool,
    /// QEMU objects such as secrets (not supported)
    #[arg(long, value_name = "OBJDEF", hide = true)]
    pub object: Vec<String>,
}

impl NamingArgs {
    /// Refuses `--object`, which no driver here supports.
    pub fn check(&self) -> Result<()> {
        match self.object.first() {
            None => Ok(()),
            Some(object) => Err(Failure::new(format!(
                "--object {object}: no driver here takes secrets or other objects"
            ))),
        }
    }
}

/// An image that is read, as most commands name it.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct SourceArgs {
    /// Format of the image (default: find out)
    #[arg(short = 'f', long = "format", value_name = "FMT")]
    pub format: Option<String>,
    #[command(flatten)]
    pub naming: NamingArgs,
}

impl SourceArgs {
    /// Returns the specification of the image called `name`.
    pub fn spec(&self, name: &str) -> Result<ImageSpec> {
        self.naming.check()?;
        if self.naming.image_opts && self.format.is_some() {
            return Err(Failure::new("--image-opts and --format are mutually exclusive"));
        }
        Ok(ImageSpec::parse(name, self.naming.image_opts, self.format.as_deref())?)
    }
}

/// `-U`.
#[derive(clap::Args, Debug, Clone, Copy, Default)]
pub(crate) struct ShareArgs {
    /// Read the image even while another program writes it
    #[arg(short = 'U', long)]
    pub force_share: bool,
}

impl ShareArgs {
    /// Returns what other programs may do with the image while it is open.
    pub fn sharing(self) -> Sharing {
        if self.force_share { Sharing::Force } else { Sharing::Exclusive }
    }
}
