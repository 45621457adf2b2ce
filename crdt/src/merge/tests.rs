use super::*;

mod ancestors;
mod devices;
mod pairs;
mod texts;
