//! Appraisal against recorded Evidence of real machines, and against Evidence of hierarchies made for the
//! purpose, in which one thing at a time is wrong.

mod amd_rules;
mod collecting;
mod corpus;
mod intel_rules;
mod lab;
mod mine;
mod mutation;
mod nvidia;
mod nvidia_rules;
mod rendering;
mod vectors;
