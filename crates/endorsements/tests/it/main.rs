//! Fetching from a local server that plays the vendors with recorded answers, and the roads from there: cache,
//! floors, bundles. Nothing here needs the network or today's date.

mod bundles;
mod caching;
mod faults;
mod fetching;
mod rollback;
mod vectors;
