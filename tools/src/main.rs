//! The `block-img` program: the built-in drivers behind the command line.

fn main() -> std::process::ExitCode {
    block_img::run(block_img::registry(), std::env::args_os())
}
