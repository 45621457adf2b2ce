use super::*;

mod ancestors;
mod devices;
mod texts;
