//! Waiting for something that will be true, by looking, with a bound.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest that anything may take on a machine that is busy with other
/// tests. Reaching it is a failure, so it costs nothing where all is well.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(20);

/// Looks until there is something, and returns it.
///
/// # Panics
/// [`LIMIT`] has passed; `what` says what was waited for.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(LIMIT, look).unwrap_or_else(|| panic!("waited {LIMIT:?} in vain until {what}"))
}

/// Looks until there is something or `limit` has passed.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(PERIOD);
    }
}
