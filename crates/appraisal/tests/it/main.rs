//! Appraisal against recorded Evidence of real machines, and against Evidence of hierarchies made for the
//! purpose, in which one thing at a time is wrong.

mod amd_rules;
mod collecting;
mod corpus;
mod intel_detail;
mod intel_formats;
mod intel_rules;
mod lab;
mod mine;
mod mutation;
mod rendering;
mod vectors;
