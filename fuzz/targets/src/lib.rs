//! Code that the libFuzzer binaries share: a call of the body by its name, and the limit on memory.

/// Runs the body called `name`.
pub fn fuzz(name: &str, data: &[u8]) {
    block_fuzz::fuzz(name, data);
}

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> =
    cap::Cap::new(std::alloc::System, block_fuzz::MEMORY);
