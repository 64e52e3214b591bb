//! Layers over tokens: each against loops in f64, finite differences, both devices, tokens that are masked.

#[path = "../common/mod.rs"]
mod common;
mod empty;
mod encoder;
mod formulas;
mod fusion;
mod fusion_options;
mod gates;
mod multi_head_attention;
mod plain;
mod setup;
#[path = "../common/shared.rs"]
mod shared;
mod trial;
