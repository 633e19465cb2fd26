//! `bitmap`: accepted for compatibility. No format here has bitmaps.

use crate::context::Context;
use crate::error::{Failure, Result};

#[derive(clap::Args, Debug)]
pub(crate) struct BitmapArgs {
    /// What would be done, to which image
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    words: Vec<String>,
}

impl BitmapArgs {
    pub fn run(self, cx: &Context) -> Result<u8> {
        let formats: Vec<_> =
            cx.registry.drivers().iter().map(|driver| driver.descriptor().name).collect();
        let failure = Failure::new("Operation on bitmap failed: Operation not supported");
        Err(failure
            .hint(format!("of the formats here ({}), none keeps bitmaps", formats.join(", "))))
    }
}
