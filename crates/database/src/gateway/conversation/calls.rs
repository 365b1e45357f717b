//! Calls of algorithms within a session: PostgreSQL makes text of the arguments, `Algorithms` answers, PostgreSQL makes
//! typed rows of the answer, in the formats that the client asked for.

use std::sync::Arc;

use bytes::Bytes;
use database_manifest::AlgorithmName;

use super::{Conversation, FAILED, Refused, What};
use crate::gateway::{
    message,
    statement::{Call, Prepared},
};

/// The statement and portal that conversions use; a client that uses the name too gets an error from PostgreSQL.
const OWN: &str = "bailey gateway";

/// Why nothing more is taken from the client.
#[derive(Debug)]
pub(super) enum Hold {
    No,
    /// PostgreSQL has to say whether it takes rows.
    Copy,
    /// What was asked before comes first.
    Waits(Job),
    /// PostgreSQL makes text of the arguments.
    Converts(Job),
    /// The algorithm has to be asked.
    Due(Job, Vec<Option<String>>),
    /// It has been asked.
    Runs(Job),
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Job {
    call: Arc<Call>,
    /// Of the extended protocol: types, formats and values of the parameters, formats of the result.
    bound: Option<(Bytes, Bytes, Bytes)>,
}

impl Job {
    pub(super) fn simple(call: Arc<Call>) -> Self {
        Self { call, bound: None }
    }

    pub(super) fn extended(call: Arc<Call>, types: Bytes, parameters: Bytes, formats: Bytes) -> Self {
        Self { call, bound: Some((types, parameters, formats)) }
    }
}

impl Conversation {
    /// Goes on with a call when what was before it is answered.
    pub(super) fn advance_call(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.hold, Hold::No) {
            Hold::Waits(_) if self.discarding => {}
            Hold::Waits(job) if job.bound.is_none() && self.status == FAILED => {
                let sentence =
                    "current transaction is aborted, commands ignored until end of transaction block";
                self.refuse_query(Refused { sqlstate: "25P02", sentence: sentence.to_owned() });
            }
            Hold::Waits(job) => self.convert(job),
            // The row came, and what ends the query that gave it.
            hold => self.hold = hold,
        }
    }

    fn convert(&mut self, job: Job) {
        let text = job.call.conversion();
        match &job.bound {
            None => {
                message::put_query(&mut self.to_server, &text);
                self.expect_hidden(What::Convert(Some(false)));
            }
            Some((types, parameters, _)) => {
                let none = Bytes::from_static(&[0, 0]);
                self.run(&text, types.clone(), parameters.clone(), &none, What::Convert(None), true);
            }
        }
        self.hold = Hold::Converts(job);
    }

    /// Runs a query of ours within the extended protocol.
    fn run(
        &mut self,
        text: &str,
        types: Bytes,
        parameters: Bytes,
        formats: &[u8],
        execute: What,
        hidden: bool,
    ) {
        let prepared = Arc::new(Prepared::own());
        message::put_parse(&mut self.to_server, OWN, text, &types);
        self.expect_hidden(What::Parse(OWN.to_owned(), prepared));
        message::put_bind(&mut self.to_server, OWN, OWN, &parameters, formats);
        let bound = super::Bound { prepared: None, values: None };
        self.expect_hidden(What::Bind(OWN.to_owned(), Arc::new(bound)));
        message::put_execute(&mut self.to_server, OWN);
        if hidden {
            self.expect_hidden(execute)
        } else {
            self.expect(execute)
        }
        for (kind, statement) in [(b'P', false), (b'S', true)] {
            message::put_close(&mut self.to_server, kind, OWN);
            self.expect_hidden(What::Close(statement, OWN.to_owned()));
        }
        message::put_flush(&mut self.to_server);
    }

    /// The arguments as text.
    pub(super) fn converted(&mut self, row: Vec<Option<String>>) {
        self.hold = match std::mem::replace(&mut self.hold, Hold::No) {
            Hold::Converts(job) => Hold::Due(job, row),
            other => other,
        };
    }

    /// A call that has to be made now. `None` among the arguments: NULL.
    pub(in crate::gateway) fn due(&mut self) -> Option<(AlgorithmName, Vec<Option<String>>)> {
        if !self.pending.is_empty() {
            return None;
        }
        match std::mem::replace(&mut self.hold, Hold::No) {
            Hold::Due(job, arguments) => {
                let name = job.call.name.clone();
                self.hold = Hold::Runs(job);
                Some((name, arguments))
            }
            other => {
                self.hold = other;
                None
            }
        }
    }

    /// What the algorithm said. `Err`: SQLSTATE and a sentence.
    pub(in crate::gateway) fn answered(
        &mut self,
        answer: Result<Vec<Vec<Option<String>>>, (&'static str, String)>,
    ) {
        let Hold::Runs(job) = std::mem::replace(&mut self.hold, Hold::No) else { return };
        match (answer, &job.bound) {
            (Ok(rows), None) => {
                let text = job.call.answer(&rows);
                message::put_query(&mut self.to_server, &text);
                self.expect(What::Query(Arc::new(Prepared::own())));
            }
            (Ok(rows), Some((_, _, formats))) => {
                let text = job.call.answer(&rows);
                let none = Bytes::from_static(&[0, 0]);
                let parameters = Bytes::from_static(&[0, 0, 0, 0]);
                self.run(&text, none, parameters, formats, What::Execute(None), false);
            }
            (Err((sqlstate, sentence)), None) => self.refuse_query(Refused { sqlstate, sentence }),
            (Err((sqlstate, sentence)), Some(_)) => self.refuse_parse(Refused { sqlstate, sentence }),
        }
    }
}
