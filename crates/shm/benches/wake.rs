//! Round trips between two processes: both awake, and both asleep in between.
//! `cargo bench -p breakeven-shm --bench wake`.

#[path = "support/mod.rs"]
mod support;

use breakeven_shm::{Channel, ChannelConfig, Message};
use std::time::{Duration, Instant};
use support::{arena, compare_times, in_child};

fn get(channel: &Channel, message: &mut Message) {
    while channel.try_recv(message).is_err() {
        channel.wait_readable(Duration::from_millis(100));
    }
}

fn main() {
    let arena = arena();
    let make = || Channel::create(&arena, ChannelConfig::default()).unwrap();
    let (there, back) = (make(), make());
    let echo = in_child(|| {
        let mut message = Message::new();
        loop {
            get(&there, &mut message);
            back.try_send(0, message.payload(), &mut Vec::new()).unwrap();
            if message.tag == 1 {
                return;
            }
        }
    });
    let message = std::cell::RefCell::new(Message::new());
    let round_trip = |tag: u16, silence: Duration| {
        // While we compute, the other side stops spinning and goes to sleep.
        let silent = Instant::now();
        while silent.elapsed() < silence {
            std::hint::spin_loop();
        }
        let started = Instant::now();
        there.try_send(tag, b"ping", &mut Vec::new()).unwrap();
        get(&back, &mut message.borrow_mut());
        started.elapsed()
    };
    println!("ns a round trip between two processes");
    compare_times(20_000, &mut [("one after the other", &mut || round_trip(0, Duration::ZERO))]);
    compare_times(500, &mut [("after 2 ms of silence", &mut || round_trip(0, Duration::from_millis(2)))]);
    round_trip(1, Duration::ZERO);
    echo.wait();
}
