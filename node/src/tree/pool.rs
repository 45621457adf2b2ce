//! Where many files are read at once: on threads in a program, one after the other in the simulator.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};

/// Runs jobs, in any order, and gives their results in the order of the jobs.
pub trait Pool: Sync {
    /// Runs `work` on each job. Jobs are begun in their order: the longest first is best.
    fn map<J: Send, R: Send>(&self, jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R>;
}

/// Runs jobs one after the other where it is called: the simulator's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

/// Runs jobs on threads of their own that end with the call.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    count: NonZero<usize>,
}

impl Threads {
    /// As many threads as there are cores for this process.
    pub fn of_cores() -> Self {
        Self { count: std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN) }
    }
}

impl Pool for Inline {
    fn map<J: Send, R: Send>(&self, jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
        jobs.into_iter().map(work).collect()
    }
}

impl Pool for Threads {
    fn map<J: Send, R: Send>(&self, jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
        let count = self.count.get().min(jobs.len());
        if count < 2 {
            return Inline.map(jobs, work);
        }
        // Shared by the workers: each takes the next job when it has done its last.
        let waiting = Mutex::new(jobs.into_iter().enumerate());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some((at, job)) = next else { return };
                        let result = work(job);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_whoever_does_them() {
        let jobs: Vec<u32> = (0..100).rev().collect();
        let threads = Threads { count: NonZero::new(3).unwrap() };
        assert_eq!(threads.map(jobs.clone(), |job| job * 2), Inline.map(jobs, |job| job * 2));
        assert_eq!(threads.map(Vec::<u32>::new(), |job| job), Vec::<u32>::new());
    }
}
