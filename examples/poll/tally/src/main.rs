//! Counts the votes of the poll, and gives a receipt for each.
//!
//! `POST /votes/{option}` counts one and answers its receipt; `GET /votes` answers all counts. Counts live in
//! `wasi:keyvalue`. The salt of the receipts is a secret of the manifest and arrives in `TALLY_SALT`.

mod counts;
mod receipt;

use ballot::{Ballot, Count, Counts, Receipt};
use serde::Serialize;
use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    Ok(answer(&request).unwrap_or_else(|problem| {
        let status = problem.status();
        json(status, &serde_json::json!({ "code": problem.code(), "message": problem.message() }))
    }))
}

enum Problem {
    Misconfigured(String),
    NoSuchOption,
    NoSuchPage,
    WrongMethod,
    Store(String),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Misconfigured(_) | Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoSuchOption | Self::NoSuchPage => StatusCode::NOT_FOUND,
            Self::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Misconfigured(_) => "MISCONFIGURED",
            Self::NoSuchOption => "NO_SUCH_OPTION",
            Self::NoSuchPage => "NO_SUCH_PAGE",
            Self::WrongMethod => "WRONG_METHOD",
            Self::Store(_) => "STORE",
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Misconfigured(what) | Self::Store(what) => what,
            Self::NoSuchOption => "this option is not on the ballot",
            Self::NoSuchPage => "there are /votes and /votes/{option}",
            Self::WrongMethod => "GET /votes, POST /votes/{option}",
        }
    }
}

fn answer(request: &Request<Body>) -> Result<Response<Body>, Problem> {
    let ballot = ballot()?;
    let path = request.uri().path();
    if path == "/votes" {
        return match *request.method() {
            Method::GET => Ok(json(StatusCode::OK, &all(&ballot)?)),
            _ => Err(Problem::WrongMethod),
        };
    }
    let option = path.strip_prefix("/votes/").ok_or(Problem::NoSuchPage)?;
    let option = &ballot.find(option).ok_or(Problem::NoSuchOption)?.id;
    match *request.method() {
        Method::POST => Ok(json(StatusCode::CREATED, &count(option)?)),
        _ => Err(Problem::WrongMethod),
    }
}

fn ballot() -> Result<Ballot, Problem> {
    let text = std::env::var(ballot::OPTIONS_VARIABLE)
        .map_err(|_| Problem::Misconfigured(format!("{} is not set", ballot::OPTIONS_VARIABLE)))?;
    Ballot::parse(&text).map_err(|bad| Problem::Misconfigured(bad.to_string()))
}

fn all(ballot: &Ballot) -> Result<Counts, Problem> {
    let store = counts::Counter::open().map_err(Problem::Store)?;
    let counts = ballot
        .choices()
        .iter()
        .map(|choice| Ok(Count { option: choice.id.clone(), votes: store.votes(&choice.id)? }))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Problem::Store)?;
    let total = counts.iter().map(|count| count.votes).sum();
    Ok(Counts { counts, total })
}

fn count(option: &str) -> Result<Receipt, Problem> {
    let salt = receipt::Salt::from_environment().map_err(Problem::Misconfigured)?;
    let number = counts::Counter::open().and_then(|store| store.add(option)).map_err(Problem::Store)?;
    Ok(Receipt { option: option.to_owned(), receipt: salt.receipt(option, number) })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", wstd::http::HeaderValue::from_static("application/json"));
    response
}
