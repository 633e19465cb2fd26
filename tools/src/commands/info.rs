//! `info`: what an image is, its sizes and its parents.

use std::time::Duration;

use block_core::{Disk, ImageInfo, InfoValue, Storage, size};
use block_inspect::{GuestStorage, Partition, partitions};
use serde_json::{Map, Value, json};

use super::inspect::partition_line;
use crate::args::{AllowArgs, OutputFormat, ShareArgs, SourceArgs};
use crate::context::Context;
use crate::drivers::FILE_SCHEME;
use crate::error::{Failure, Result};
use crate::host_path::{display_name, file_path};
use crate::image::{self, OpenMode};
use crate::picture::{Cells, bar};
use crate::screen;

#[derive(clap::Args, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    share: ShareArgs,
    /// Show the image's parents too
    #[arg(short = 'b', long)]
    backing_chain: bool,
    /// For people (human) or programs (json)
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    output: OutputFormat,
    #[command(flatten)]
    allow: AllowArgs,
    /// The image
    #[arg(value_name = "FILE")]
    file: String,
}

impl InfoArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let spec = self.source.spec(&self.file)?;
        let how = OpenMode::shared(self.share).allow(&self.allow);
        cx.block_on(async {
            let disk = image::open(cx, &spec, &how).await?;
            let mut nodes = vec![Node::of(&disk, &display_name(&spec.uri)).await?];
            if let (Some(node), Some(below)) = (nodes.first_mut(), &spec.below) {
                node.protocol = below.format.clone().unwrap_or_else(|| "image".to_owned());
            }
            let mut below = disk.parent().filter(|_| self.backing_chain);
            while let Some(disk) = below {
                let name = display_name(disk.device().storage().uri());
                nodes.push(Node::of(&disk, &name).await?);
                below = disk.parent();
            }
            match (self.output, self.backing_chain) {
                (OutputFormat::Json, true) => {
                    let nodes: Vec<Value> = nodes.iter().map(Node::json).collect();
                    cx.console.json(&nodes)?;
                }
                (OutputFormat::Json, false) => {
                    if let Some(node) = nodes.first() {
                        cx.console.json(&node.json())?;
                    }
                }
                (OutputFormat::Human, _) => {
                    for (index, node) in nodes.iter().enumerate() {
                        if index > 0 {
                            cx.console.line("")?;
                        }
                        for line in node.human() {
                            cx.console.line(line)?;
                        }
                    }
                    allocation_line(cx, &disk).await?;
                }
            }
            Ok(0)
        })
    }
}

/// Prints a bar of where data is allocated, on a terminal only: programs read the other lines.
async fn allocation_line(cx: &Context, disk: &Disk) -> Result<()> {
    if !cx.console.is_terminal() || disk.size() == 0 {
        return Ok(());
    }
    let columns = screen::width().saturating_sub("allocation: []".len()).clamp(8, 100);
    // The map of a huge disk takes long to read. `map` shows it without a time limit.
    let cells = Cells::within(Some(BAR_TIME), disk, columns, 1).await;
    if let Ok(Some(cells)) = cells {
        let bar = bar(&cells, screen::unicode());
        cx.console.line(format_args!("allocation: [{bar}]"))?;
    }
    Ok(())
}

/// Maximum time for reading the map for the bar of `info`.
const BAR_TIME: Duration = Duration::from_millis(200);

/// An image and its storage.
struct Node {
    filename: String,
    info: ImageInfo,
    file_length: u64,
    disk_size: Option<u64>,
    protocol: String,
    /// Partitions of the guest's disk. Empty if they cannot be read.
    partitions: Vec<Partition>,
}

impl Node {
    async fn of(disk: &Disk, filename: &str) -> Result<Self> {
        let storage = disk.device().storage();
        let failed = |error| Failure::open(filename, &error);
        Ok(Self {
            filename: filename.to_owned(),
            info: disk.info(),
            // Rounded up to whole sectors, as for a disk.
            file_length: storage.len().await.map_err(failed)?.next_multiple_of(512),
            disk_size: storage.allocated_bytes().await.map_err(failed)?,
            protocol: protocol_name(&*storage),
            // If the first sectors cannot be read, all other facts are still shown.
            partitions: partitions(&GuestStorage::new(disk.clone(), filename))
                .await
                .unwrap_or_default(),
        })
    }

    fn json(&self) -> Value {
        let info = &self.info;
        let mut child = Map::new();
        child.insert("children".into(), json!([]));
        child.insert("virtual-size".into(), json!(self.file_length));
        child.insert("filename".into(), json!(self.filename));
        child.insert("format".into(), json!(self.protocol));
        let mut node = Map::new();
        node.insert("virtual-size".into(), json!(info.virtual_size));
        node.insert("filename".into(), json!(self.filename));
        if let Some(block) = info.block_size {
            node.insert("cluster-size".into(), json!(block));
        }
        node.insert("format".into(), json!(info.format));
        if let Some(bytes) = self.disk_size {
            node.insert("actual-size".into(), json!(bytes));
            child.insert("actual-size".into(), json!(bytes));
        }
        child.insert("format-specific".into(), json!({"type": FILE_SCHEME, "data": {}}));
        child.insert("dirty-flag".into(), json!(false));
        node.insert("dirty-flag".into(), json!(info.dirty));
        if let Some(parent) = &info.parent {
            let opened = parent.opened.as_deref().map(display_name);
            let named = opened.clone().unwrap_or_else(|| parent.reference.clone());
            node.insert("backing-filename".into(), json!(named));
            if let Some(opened) = opened {
                node.insert("full-backing-filename".into(), json!(opened));
            }
            if let Some(format) = &parent.format {
                node.insert("backing-filename-format".into(), json!(format));
            }
        }
        if !info.details.is_empty() {
            let data: Map<String, Value> = info
                .details
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect();
            node.insert("format-specific".into(), json!({"type": info.format, "data": data}));
        }
        if !self.partitions.is_empty() {
            node.insert("partitions".into(), json!(self.partitions));
        }
        node.insert("children".into(), json!([{"name": "file", "info": child}]));
        Value::Object(node)
    }

    /// Returns the lines for people.
    fn human(&self) -> Vec<String> {
        let info = &self.info;
        let disk_size = self.disk_size.map_or("unavailable".to_owned(), size::human);
        let mut lines = vec![
            format!("image: {}", self.filename),
            format!("file format: {}", info.format),
            format!(
                "virtual size: {} ({} bytes)",
                size::human(info.virtual_size),
                info.virtual_size
            ),
            format!("disk size: {disk_size}"),
        ];
        if let Some(block) = info.block_size {
            lines.push(format!("cluster_size: {block}"));
        }
        if info.dirty {
            lines.push("cleanly shut down: no".to_owned());
        }
        if let Some(parent) = &info.parent {
            let line = match parent.opened.as_deref().map(display_name) {
                Some(opened) if opened != parent.reference => {
                    format!("backing file: {} (actual path: {opened})", parent.reference)
                }
                _ => format!("backing file: {}", parent.reference),
            };
            lines.push(line);
            if let Some(format) = &parent.format {
                lines.push(format!("backing file format: {format}"));
            }
        }
        if !info.details.is_empty() {
            lines.push("Format specific information:".to_owned());
            for (name, value) in &info.details {
                lines.push(format!("    {name}: {}", value_text(value)));
            }
        }
        lines.extend(self.partitions.iter().map(partition_line));
        lines.push("Child node '/file':".to_owned());
        lines.push(format!("    filename: {}", self.filename));
        lines.push(format!("    protocol type: {}", self.protocol));
        lines.push(format!(
            "    file length: {} ({} bytes)",
            size::human(self.file_length),
            self.file_length
        ));
        lines.push(format!("    disk size: {disk_size}"));
        lines
    }
}

/// Returns `file`, `host_device`, or the scheme.
fn protocol_name(storage: &dyn Storage) -> String {
    let uri = storage.uri();
    let path = file_path(uri);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => FILE_SCHEME.to_owned(),
        Ok(_) => "host_device".to_owned(),
        Err(_) => uri.split_once(':').map_or(FILE_SCHEME, |(scheme, _)| scheme).to_owned(),
    }
}

fn value_text(value: &InfoValue) -> String {
    match value {
        InfoValue::Text(text) => text.clone(),
        InfoValue::Number(number) => number.to_string(),
        InfoValue::Bool(value) => value.to_string(),
        InfoValue::Uuid(uuid) => uuid.to_string(),
        _ => String::new(),
    }
}
