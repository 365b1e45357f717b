//! The page of the poll: shows the question, takes a vote, shows the result.
//!
//! Counting is done by `http://tally/`. The question is a file of the manifest, the options a variable. The
//! page needs no script: voting is a form, its answer a redirect.

mod page;
mod tally;

use ballot::Ballot;
use wstd::http::{Body, Error, HeaderValue, Method, Request, Response, StatusCode};

const QUESTION_FILE: &str = "/poll/question.txt";
const MAX_FORM: usize = 1024;
const STYLE: &str = include_str!("style.css");
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let result = match (request.method().clone(), request.uri().path()) {
        (Method::GET | Method::HEAD, "/") => home(&request).await,
        (Method::GET | Method::HEAD, "/results.json") => results().await,
        (Method::GET | Method::HEAD, "/style.css") => {
            Ok(respond(StatusCode::OK, "text/css; charset=utf-8", STYLE))
        }
        (Method::POST, "/vote") => vote(&mut request).await,
        (_, "/" | "/results.json" | "/style.css" | "/vote") => Err(Problem::WrongMethod),
        _ => Err(Problem::NoSuchPage),
    };
    Ok(result.unwrap_or_else(|problem| problem.respond()))
}

/// Why a page cannot be shown.
pub enum Problem {
    /// The manifest gives this service no usable question or ballot.
    Misconfigured(String),
    /// tally did not answer as it should.
    Tally(String),
    /// The form has no option of the ballot.
    BadVote,
    /// The form is too long.
    TooLong,
    /// The page exists, for another method.
    WrongMethod,
    /// There is no such page.
    NoSuchPage,
}

impl Problem {
    fn respond(&self) -> Response<Body> {
        let (status, sentence) = match self {
            Self::Misconfigured(what) => (StatusCode::INTERNAL_SERVER_ERROR, what.as_str()),
            Self::Tally(what) => (StatusCode::BAD_GATEWAY, what.as_str()),
            Self::BadVote => (StatusCode::BAD_REQUEST, "Choose one of the options, then vote."),
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "This form is too long."),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, "This page is asked for in another way."),
            Self::NoSuchPage => (StatusCode::NOT_FOUND, "There is no such page here."),
        };
        html(status, page::problem(status.as_u16(), sentence).into_string())
    }
}

async fn home(request: &Request<Body>) -> Result<Response<Body>, Problem> {
    let question = std::fs::read_to_string(QUESTION_FILE)
        .map_err(|error| Problem::Misconfigured(format!("{QUESTION_FILE}: {error}")))?;
    let ballot = ballot()?;
    let counts = tally::counts().await?;
    let receipt = query(request, "receipt").filter(|code| page::is_receipt(code));
    let page = page::home(question.trim(), &ballot, &counts, receipt.as_deref());
    Ok(html(StatusCode::OK, page.into_string()))
}

async fn results() -> Result<Response<Body>, Problem> {
    let counts = tally::counts().await?;
    let json = serde_json::to_string(&counts).map_err(|error| Problem::Tally(error.to_string()))?;
    Ok(respond(StatusCode::OK, "application/json", json))
}

async fn vote(request: &mut Request<Body>) -> Result<Response<Body>, Problem> {
    let form = request.body_mut().contents().await.map_err(|_| Problem::BadVote)?;
    if form.len() > MAX_FORM {
        return Err(Problem::TooLong);
    }
    let mut options = form_urlencoded::parse(form).filter(|(name, _)| name == "option");
    let (Some((_, option)), None) = (options.next(), options.next()) else {
        return Err(Problem::BadVote);
    };
    let ballot = ballot()?;
    let choice = ballot.find(&option).ok_or(Problem::BadVote)?;
    let receipt = tally::vote(&choice.id).await?;
    let mut response = html(StatusCode::SEE_OTHER, String::new());
    let target = format!("/?receipt={}#result", receipt.receipt);
    let target =
        HeaderValue::from_str(&target).map_err(|_| Problem::Tally("the receipt is no text".to_owned()))?;
    response.headers_mut().insert("location", target);
    Ok(response)
}

fn ballot() -> Result<Ballot, Problem> {
    let text = std::env::var(ballot::OPTIONS_VARIABLE)
        .map_err(|_| Problem::Misconfigured(format!("{} is not set", ballot::OPTIONS_VARIABLE)))?;
    Ballot::parse(&text).map_err(|bad| Problem::Misconfigured(bad.to_string()))
}

fn query(request: &Request<Body>, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn html(status: StatusCode, page: String) -> Response<Body> {
    respond(status, "text/html; charset=utf-8", page)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(kind));
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    response
}
