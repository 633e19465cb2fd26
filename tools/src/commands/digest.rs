//! `digest`: a hash of a disk's content, whatever format it is stored in.

use std::sync::Arc;

use serde_json::json;

use crate::args::{AllowArgs, OutputFormat, ShareArgs, SourceArgs};
use crate::context::Context;
use crate::error::Result;
use crate::image::{self, OpenMode};
use crate::job_words;
use crate::progress::ProgressArgs;
use crate::signals::interruptible;
use block_jobs::{DigestOptions, digest};

#[derive(clap::Args, Debug)]
pub(crate) struct DigestArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    progress: ProgressArgs,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    allow: AllowArgs,
    /// The images
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
}

impl DigestArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let how = OpenMode::shared(self.share).allow(&self.allow);
        cx.block_on_with_timers(async {
            let mut list = Vec::new();
            for file in &self.files {
                let disk = image::open(cx, &self.source.spec(file)?, &how).await?;
                let size = disk.size();
                let progress = Arc::new(self.progress.start("digest", size));
                let work = async {
                    let hash = digest(&disk, &DigestOptions::new(), progress.clone()).await;
                    hash.map_err(|error| job_words::reading(&error, file))
                };
                let hash = interruptible(&cx.console, &progress, work).await?.to_string();
                progress.finish();
                match self.output {
                    OutputFormat::Json => list.push(json!({
                        "filename": file, "virtual-size": size, "blake3-tree": hash,
                    })),
                    OutputFormat::Human => cx.console.line(sum_line(&hash, file))?,
                }
            }
            if self.output == OutputFormat::Json {
                cx.console.json(&list)?;
            }
            Ok(0)
        })
    }
}

/// Returns the line of an image as `sha256sum` writes one: where the name holds a line end or a backslash, a backslash
/// begins the line, and both are escaped.
fn sum_line(hash: &str, name: &str) -> String {
    if name.contains(['\\', '\n', '\r']) {
        let name = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        format!("\\{hash}  {name}")
    } else {
        format!("{hash}  {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_begin_a_second_line() {
        for (name, line) in [
            ("a b.vdi", "00  a b.vdi"),
            ("a\n00  b", "\\00  a\\n00  b"),
            ("a\r\\b", "\\00  a\\r\\\\b"),
        ] {
            assert_eq!(sum_line("00", name), line);
        }
    }
}
