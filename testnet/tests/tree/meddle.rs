//! People who meddle.
