//! The gateway's reading of what clients send, without any I/O, for fuzzing.

use std::sync::Arc;

use bytes::BytesMut;
use database_manifest::{Manifest, PartyName};

use super::{
    conversation::Conversation,
    startup,
    statement::{self, Kind, Rights},
};

/// Lets a client and PostgreSQL send these bytes, in turns, and gives how many bytes either would get.
pub fn converse(manifest: &Arc<Manifest>, party: &PartyName, turns: &[(bool, &[u8])]) -> (usize, usize) {
    let mut conversation = Conversation::new(Rights::new(manifest, party), Arc::clone(manifest));
    let (mut client, mut server) = (BytesMut::new(), BytesMut::new());
    let (mut sent, mut got) = (0, 0);
    for (from_client, bytes) in turns {
        let _ = startup::first(bytes);
        let result = if *from_client {
            client.extend_from_slice(bytes);
            conversation.hear_client(&mut client)
        } else {
            server.extend_from_slice(bytes);
            conversation.hear_server(&mut server)
        };
        if conversation.due().is_some() {
            conversation.answered(Ok(vec![vec![Some("1".to_owned())]]));
        }
        sent += conversation.to_server.split().len();
        got += conversation.to_client.split().len();
        if result.is_err() {
            break;
        }
    }
    (sent, got)
}

/// What PostgreSQL would get of a statement; `None`: it is refused, or an algorithm answers it.
pub fn admit(manifest: &Manifest, party: &PartyName, text: &str) -> Option<String> {
    let prepared = statement::admit(text, &Rights::new(manifest, party), manifest).ok()?;
    (!matches!(prepared.kind, Kind::Call(_))).then_some(prepared.text)
}
