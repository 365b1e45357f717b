//! Appraisal against recorded Evidence of real machines, and against Evidence of hierarchies made for the
//! purpose, in which one thing at a time is wrong.

mod amd_rules;
mod azure;
mod collecting;
mod corpus;
mod event_log_attacks;
mod event_logs;
mod intel_rules;
mod lab;
mod mine;
mod mutation;
mod rendering;
mod tpm;
mod vectors;
