//! The output format of a result: for people or for programs.

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

impl std::str::FromStr for OutputFormat {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("--output expects 'human' or 'json' not '{word}'")),
        }
    }
}
