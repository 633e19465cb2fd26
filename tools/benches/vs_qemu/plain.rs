//! The same requests by plain system calls on a file: the least that they can cost on this machine.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use block_core::PageBuffer;

/// Where the requests begin in the file. An image made by stock keeps its data at such an offset, so
/// that a request meets as many pages here as there.
const START: u64 = (1 << 20) + 512;

/// `read|write COUNT SIZE STEP FILE`: sends the requests one after the other.
pub fn child(words: &[String]) -> ExitCode {
    match run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> std::io::Result<()> {
    let [mode, count, size, step, path] = words else {
        return Err(std::io::Error::other("wants read|write COUNT SIZE STEP FILE"));
    };
    let number = |word: &String| word.parse::<u64>().map_err(std::io::Error::other);
    let (count, size, step) = (number(count)?, number(size)?, number(step)?);
    let writes = mode == "write";
    let file = OpenOptions::new().read(true).write(writes).open(path)?;
    let mut buffer = PageBuffer::new(usize::try_from(size).map_err(std::io::Error::other)?);
    let room = file.metadata()?.len().saturating_sub(START + size).max(1);
    let mut at = 0;
    for _ in 0..count {
        match writes {
            true => file.write_all_at(&buffer, START + at)?,
            false => file.read_exact_at(&mut buffer, START + at)?,
        }
        at = (at + step) % room / 512 * 512;
    }
    Ok(())
}
