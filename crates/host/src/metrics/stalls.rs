//! For how long tasks waited for what they need: the kernel's pressure stall information, of the host where its kernel has
//! that, and of containers and whole VMs (kubelet: `KubeletPSI`).

use serde_json::{Value, json};

/// What tasks may wait for, each with its file and its name in words.
pub const KINDS: [(&str, &str); 3] = [("cpu", "CPU"), ("io", "IO"), ("memory", "memory")];

/// The waits for one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Of some tasks, while others went on.
    pub some: Share,
    /// Of all tasks at once.
    pub full: Share,
}

/// How much of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Percent of the last 10, 60 and 300 seconds.
    pub averages: [f64; 3],
    /// Microseconds since the machine's start.
    pub total: u64,
}

/// The waits for each of [`KINDS`].
pub type Stalls = [Option<Stall>; KINDS.len()];

/// What the kernel says at present.
pub fn read() -> Stalls {
    KINDS.map(|(file, _)| parse(&std::fs::read_to_string(format!("/proc/pressure/{file}")).ok()?))
}

/// What a guest says, a text for each of [`KINDS`]; nothing of an older guest.
pub fn of_guest(texts: &[String]) -> Stalls {
    std::array::from_fn(|at| parse(texts.get(at)?))
}

/// Adds them to figures as `/stats/summary` has them.
pub fn add_to(figures: &mut Value, stalls: Stalls, time: &Value) {
    for ((kind, _), stall) in KINDS.iter().zip(stalls) {
        if let Some(stall) = stall {
            figures[kind]["time"] = time.clone();
            figures[kind]["psi"] = stall.to_json();
        }
    }
}

fn parse(text: &str) -> Option<Stall> {
    let share = |word: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(word))?;
        let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
        let average = |name: &str| field(name)?.parse::<f64>().ok();
        Some(Share {
            averages: [average("avg10=")?, average("avg60=")?, average("avg300=")?],
            total: field("total=")?.parse().ok()?,
        })
    };
    Some(Stall {
        some: share("some ")?,
        // Older kernels do not tell it of CPUs.
        full: share("full ").unwrap_or_default(),
    })
}

impl Stall {
    fn to_json(self) -> Value {
        let share = |share: Share| {
            let [ten, sixty, three_hundred] = share.averages;
            json!({"total": share.total, "avg10": ten, "avg60": sixty, "avg300": three_hundred})
        };
        json!({"full": share(self.full), "some": share(self.some)})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";
        let stall = parse(text).expect("understood");
        assert_eq!(
            stall.to_json(),
            json!({"full": {"total": 12, "avg10": 0.0, "avg60": 0.0, "avg300": 0.0},
                "some": {"total": 4711, "avg10": 1.5, "avg60": 0.25, "avg300": 0.0}})
        );
        let half = parse(text.lines().next().expect("a line")).expect("understood");
        assert_eq!((half.some, half.full), (stall.some, Share::default()));
        assert_eq!(parse(""), None);
        let mut figures = json!({"cpu": {"usageNanoCores": 1}});
        add_to(&mut figures, of_guest(&[text.to_owned()]), &json!("now"));
        let expected = json!({"cpu": {"usageNanoCores": 1, "time": "now", "psi": stall.to_json()}});
        assert_eq!(figures, expected);
    }
}
