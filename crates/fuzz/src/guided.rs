//! One target under libFuzzer, which follows the coverage: the name of the target is in the environment, inputs that
//! reach new code go to the first directory of the arguments. `cargo xtask fuzz --guided` builds and starts it.

#![no_main]

use std::sync::LazyLock;

use fuzz::targets::{ALL, Target};
use libfuzzer_sys::fuzz_target;

/// The variable with the target's name.
const NAME: &str = "FUZZ_TARGET";

static CHOSEN: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var(NAME).unwrap_or_default();
    let found = ALL.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("{NAME} is {name:?}, which is no target: see crates/fuzz/corpus"))
});

fuzz_target!(|input: &[u8]| (CHOSEN.run)(input));
