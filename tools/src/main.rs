//! The `block-img` program: the command line with the built-in drivers.

fn main() -> std::process::ExitCode {
    block_img::run(block_img::registry(), std::env::args_os())
}
