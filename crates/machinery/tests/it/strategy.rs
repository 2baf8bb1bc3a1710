//! Tests of strategy.
