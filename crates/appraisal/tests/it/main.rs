//! Appraisal against recorded Evidence of real machines, and against Evidence of hierarchies made for the
//! purpose, in which one thing at a time is wrong.

mod amd_rules;
mod azure;
mod cca_rules;
mod collecting;
mod composite;
mod corim;
mod corpus;
mod event_log_attacks;
mod event_logs;
mod intel_detail;
mod intel_formats;
mod intel_rules;
mod lab;
mod memory;
mod mine;
mod mutation;
mod narrowing;
mod needs;
mod nitro_rules;
mod nvidia;
mod nvidia_rules;
mod pages;
mod policy_admission;
mod policy_attributes;
mod policy_collateral;
mod policy_grace;
mod policy_snp;
mod policy_text;
mod rendering;
mod tpm;
mod vectors;
