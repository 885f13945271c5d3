//! What a machine charges for parallelism.

/// The price of each thing that a parallel run does and a serial loop does not. Seconds throughout, so that prices add up
/// without conversions.
///
/// The defaults are of one 2-core x86-64 machine with CPython 3.11, rounded. They are there to start with and to make tests
/// repeatable; a map betters them by what it observes ([`crate::Planner::observed`]), and `explain` measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineCharges {
    /// Seconds from the fork of a helper at the call until it can take a chunk.
    pub fork: f64,
    /// Seconds of the caller for one such fork: page tables are copied while it waits.
    pub fork_call: f64,
    /// Seconds from the order of a warm helper (out of the template, or from an earlier pool) until it can take a chunk.
    pub warm: f64,
    /// Seconds of the caller for one such order.
    pub warm_call: f64,
    /// Seconds until a spawned interpreter has imported the program and can take work.
    pub spawn: f64,
    /// Seconds of the caller to start a thread.
    pub thread: f64,
    /// Seconds for the put and the get of one small message between processes that are awake, in the process that does them.
    pub message: f64,
    /// Seconds of the caller for a chunk beside its items: cutting it, sending it, taking its result, deciding. A helper's
    /// own share is about as large.
    pub dispatch: f64,
    /// Seconds of either side for one small item and its result within a chunk: encoding, decoding, calling.
    pub item: f64,
    /// Seconds of the caller for a chunk for a thread: nothing is encoded.
    pub hand: f64,
    /// Seconds to copy one byte into memory that both sides have touched before.
    pub byte: f64,
    /// Seconds from waking a sleeping process until it runs.
    pub wake: f64,
    /// Seconds for the first touch of a page that the kernel has to provide and clear.
    pub page_fault: f64,
}

impl Default for MachineCharges {
    fn default() -> Self {
        Self {
            fork: 4e-3,
            fork_call: 1.5e-3,
            warm: 4e-3,
            warm_call: 0.8e-3,
            spawn: 50e-3,
            thread: 60e-6,
            message: 0.25e-6,
            dispatch: 15e-6,
            item: 0.15e-6,
            hand: 4e-6,
            byte: 1.0 / 5e9,
            wake: 43e-6,
            // A copy of 54 MB into 13,184 fresh pages took 140 ms where 3.5 ms is the copy.
            page_fault: 10e-6,
        }
    }
}

impl MachineCharges {
    /// Every charge by its name, in the order of the fields.
    pub fn named(&self) -> [(&'static str, f64); 13] {
        let Self {
            fork,
            fork_call,
            warm,
            warm_call,
            spawn,
            thread,
            message,
            dispatch,
            item,
            hand,
            byte,
            wake,
            page_fault,
        } = *self;
        [
            ("fork", fork),
            ("fork_call", fork_call),
            ("warm", warm),
            ("warm_call", warm_call),
            ("spawn", spawn),
            ("thread", thread),
            ("message", message),
            ("dispatch", dispatch),
            ("item", item),
            ("hand", hand),
            ("byte", byte),
            ("wake", wake),
            ("page_fault", page_fault),
        ]
    }

    /// The charge of that name; `None` if there is none.
    pub fn charge(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "fork" => &mut self.fork,
            "fork_call" => &mut self.fork_call,
            "warm" => &mut self.warm,
            "warm_call" => &mut self.warm_call,
            "spawn" => &mut self.spawn,
            "thread" => &mut self.thread,
            "message" => &mut self.message,
            "dispatch" => &mut self.dispatch,
            "item" => &mut self.item,
            "hand" => &mut self.hand,
            "byte" => &mut self.byte,
            "wake" => &mut self.wake,
            "page_fault" => &mut self.page_fault,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_charge_is_found_by_its_name() {
        let mut charges = MachineCharges::default();
        for (name, seconds) in charges.named() {
            assert_eq!(charges.charge(name).map(|found| *found), Some(seconds), "{name}");
        }
        assert_eq!(charges.charge("lunch"), None);
    }
}
