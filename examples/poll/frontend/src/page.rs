//! The pages, as HTML. Every text from outside passes through maud's escaping.

use ballot::{Ballot, Choice, Counts};
use maud::{DOCTYPE, Markup, html};

const RECEIPT_LENGTH: usize = 16;

/// Whether `code` has the form of tally's receipts.
pub fn is_receipt(code: &str) -> bool {
    code.len() == RECEIPT_LENGTH && code.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The question, the ballot and the result.
pub fn home(question: &str, ballot: &Ballot, counts: &Counts, receipt: Option<&str>) -> Markup {
    frame(
        question,
        html! {
            h1 { (question) }
            form method="post" action="/vote" {
                fieldset {
                    legend { "Choose one" }
                    @for choice in ballot.choices() {
                        label.choice {
                            input type="radio" name="option" value=(choice.id) required;
                            span { (choice.label) }
                        }
                    }
                }
                button type="submit" { "Vote" }
            }
            section #result aria-labelledby="result-title" {
                h2 #result-title { "Result so far" }
                @if let Some(code) = receipt {
                    p.receipt role="status" {
                        strong { "Your vote was counted. " }
                        "Receipt " code { (code) }
                    }
                }
                ol.bars { @for choice in ballot.choices() { (bar(choice, counts)) } }
                p.total { (votes(counts.total)) " in all" }
            }
        },
    )
}

/// A page that says what went wrong.
pub fn problem(status: u16, sentence: &str) -> Markup {
    frame(
        sentence,
        html! {
            p.status { (status) }
            h1 { (sentence) }
            p { a href="/" { "Back to the poll" } }
        },
    )
}

fn bar(choice: &Choice, counts: &Counts) -> Markup {
    let number = counts.counts.iter().find(|count| count.option == choice.id).map_or(0, |count| count.votes);
    let percent = (u128::from(number) * 100 + u128::from(counts.total) / 2).checked_div(counts.total.into());
    let percent = percent.unwrap_or(0);
    html! {
        li data-option=(choice.id) data-votes=(number) {
            span.label { (choice.label) }
            span.figure { (votes(number)) ", " (percent) " %" }
            svg.bar width="100%" height="10" aria-hidden="true" focusable="false" {
                rect.track width="100%" height="10" rx="5" {}
                @if number > 0 { rect.fill width={ (percent) "%" } height="10" rx="5" {} }
            }
        }
    }
}

fn votes(number: u64) -> Markup {
    html! { (number) @if number == 1 { " vote" } @else { " votes" } }
}

fn frame(title: &str, content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header {
                    svg width="18" height="18" viewBox="0 0 18 18" aria-hidden="true" focusable="false" {
                        path d="M2 2h3v2h2.5V2h3v2H13V2h3v7c0 4-3 6.2-7 7.5C5 15.2 2 13 2 9z" {}
                    }
                    span { "Running in a confidential Keep" }
                }
                main { (content) }
                footer {
                    p {
                        "Page and count run as WebAssembly inside attested Keeps. Do not take this page’s word "
                        "for it: " code { "bailey verify" } " shows from your side what was proven, and whether "
                        "the platform is real or emulated."
                    }
                }
            }
        }
    }
}
