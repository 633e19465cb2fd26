//! `completions`: scripts with which a shell completes this program's command line.

use clap_complete::Shell;

use crate::context::Context;
use crate::error::Result;

#[derive(clap::Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell; its completion script goes to standard output
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let name = cx.console.program();
        let mut command = crate::cli::command_named(&cx.registry, name);
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        cx.console.bytes(&script)?;
        Ok(0)
    }
}
