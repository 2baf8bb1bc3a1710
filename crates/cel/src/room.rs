//! Room on the stack. An expression is parsed, checked, priced and evaluated as deep as it nests, which is more than small
//! stacks of threads have room for.

/// Bytes that must be left for one level, with everything that it calls.
const LEVEL: usize = 256 << 10;
/// Bytes that are added where they are not.
const MORE: usize = 2 << 20;

/// Does one level of something that recurses, on a stack that has room for it.
pub(crate) fn with_room<R>(level: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(LEVEL, MORE, level)
}
