//! The libraries' advice in terms of this command line.

use block_core::Advice;

/// Returns the advice as a clause, for a hint beneath an error message.
pub(crate) fn hint(advice: &Advice) -> String {
    match advice {
        Advice::Check => "`check` lists what is wrong with the image".to_owned(),
        Advice::Repair => {
            "the image can be read; repair it with `check -r all` before writing".to_owned()
        }
        Advice::Reclaim => "`check -r leaks` or `compact` gives the space back".to_owned(),
        Advice::NameFormat(name) => {
            format!("give `-f {name}` to say that the disk may hold anything")
        }
        Advice::ListFormats => "`formats` lists the names".to_owned(),
        Advice::NameParent => "name the right one with --parent FILE".to_owned(),
        Advice::FindReference => "name it with --parent FILE, a folder to look in with --allow DIR, or a machine that has it with --vbox FILE".to_owned(),
        Advice::ReadShared => "`-U` reads it all the same".to_owned(),
        Advice::CreateOption("block_size") => {
            "larger blocks (-o block_size=) reach further".to_owned()
        }
        Advice::CreateOption(name) => format!("another value of -o {name}= reaches further"),
        Advice::Amend(name) => format!("give it one with `amend -o {name}=`"),
        other => other.to_string(),
    }
}

/// Returns the advice as a sentence, for the explanation of a code.
pub(crate) fn sentence(advice: &Advice) -> String {
    match advice {
        Advice::Check => "'check' lists what is wrong.".to_owned(),
        Advice::Repair => "'check -r all' repairs.".to_owned(),
        Advice::Reclaim => "'check -r leaks' or 'compact' gives the space back.".to_owned(),
        Advice::NameFormat(name) => format!("'-f {name}' names the format."),
        Advice::ListFormats => "'formats' lists the names.".to_owned(),
        Advice::NameParent => "'--parent FILE' names it.".to_owned(),
        Advice::FindReference => "'--parent FILE' names it, '--allow DIR' a folder to look in, '--vbox FILE' a machine file that registers it.".to_owned(),
        Advice::ReadShared => "'-U' reads it all the same.".to_owned(),
        Advice::CreateOption(name) => format!("'create -o {name}=…' takes another value."),
        Advice::Amend(name) => format!("'amend -o {name}=…' changes it."),
        other => format!("{other}."),
    }
}
