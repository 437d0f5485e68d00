//! Tests of the crate through its public interface; one binary, since each would link anew.

mod bad_arrays;
mod bad_csv;
mod columns;
mod common;
mod corpus;
mod examples;
mod files;
mod golden;
mod good;
mod images;
mod normalization;
mod notation;
mod parquet;
mod properties;
mod schema;
mod splits;
mod targets;
mod text;
mod warnings;
