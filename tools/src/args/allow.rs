//! Files and folders that may serve as an image's parents.

use std::path::PathBuf;

use crate::host_path::path_argument;

/// What an image may name, besides the files in its own folder.
#[derive(clap::Args, Debug, Clone, Default)]
pub(crate) struct AllowArgs {
    /// Folder, besides the image's own, whose files the image may name as parents
    #[arg(long = "allow", alias = "parent-dir", value_name = "DIR", value_parser = path_argument)]
    pub allowed_folders: Vec<PathBuf>,
    /// File that may be a parent, tried before all folders; repeat it for a chain
    #[arg(long = "parent", value_name = "FILE")]
    pub parent_files: Vec<String>,
    /// Machine file of VirtualBox whose registered disks may be parents
    #[arg(long = "vbox", value_name = "FILE", value_parser = path_argument)]
    pub machine_files: Vec<PathBuf>,
}
