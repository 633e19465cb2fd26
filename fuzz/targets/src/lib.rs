//! What the libFuzzer binaries share: the body of their name, and a limit on memory.

/// Runs the body called `name`.
pub fn fuzz(name: &str, data: &[u8]) {
    block_fuzz::fuzz(name, data);
}

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> =
    cap::Cap::new(std::alloc::System, block_fuzz::MEMORY);
