//! The gateway.
mod conversation;
mod message;
mod settings;
mod startup;
mod statement;
