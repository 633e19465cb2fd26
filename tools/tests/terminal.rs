//! What people see in a terminal of 80 and of 200 columns, through tmux.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{Folder, noise};

/// A terminal without a window; gone with the value.
struct Terminal {
    socket: String,
    columns: usize,
}

impl Terminal {
    /// `None` where tmux is missing.
    fn running(folder: &Folder, columns: usize, script: &str) -> Option<Self> {
        static TERMINALS: AtomicU32 = AtomicU32::new(0);
        let number = TERMINALS.fetch_add(1, Ordering::Relaxed);
        let socket = format!("block-img-{}-{number}", std::process::id());
        let terminal = Self { socket, columns };
        let (width, script) = (columns.to_string(), format!("{script}; sleep 60"));
        let mut start = terminal.tmux();
        start.args(["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", "50", &script]);
        start.current_dir(folder.path()).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        match start.status() {
            Ok(status) => assert!(status.success()),
            Err(_) => {
                assert!(std::env::var_os("BLOCK_REQUIRE_ORACLES").is_none(), "no tmux");
                eprintln!("SKIPPED: tmux is not installed");
                return None;
            }
        }
        Some(terminal)
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-L", &self.socket]);
        command
    }

    /// The screen, once it shows `wanted`.
    #[track_caller]
    fn screen(&self, wanted: &str) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let output = self.tmux().args(["capture-pane", "-p"]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains(wanted) {
                return text.lines().map(str::to_owned).collect();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no '{wanted}' in {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").status();
    }
}

#[test]
fn pictures_are_as_wide_as_the_terminal_allows() {
    let folder = Folder::new();
    folder.raw("disk.raw", 4 << 30, &[(0, noise(1, 1 << 20)), (3 << 30, noise(2, 40 << 20))]);
    let program = env!("CARGO_BIN_EXE_block-img");
    let script = format!("{program} map --picture disk.raw; {program} info -f raw disk.raw");
    for (columns, cells) in [(80, 64), (200, 128)] {
        let Some(terminal) = Terminal::running(&folder, columns, &script) else { return };
        let screen = terminal.screen("allocation: [");
        let widths = screen.iter().map(|line| line.chars().count());
        assert!(widths.max() <= Some(terminal.columns), "{screen:?}");
        // Nothing is broken over two lines: the title, rows of halves, the legend.
        let picture = |line: &&String| line.chars().filter(|c| "▀▄█".contains(*c)).count() > 20;
        let rows: Vec<&String> = screen.iter().filter(picture).collect();
        assert!(rows.len() >= 4, "{screen:?}");
        let row_cells = |line: &String| line.split_once("B ").map(|(_, row)| row.chars().count());
        assert!(rows.iter().all(|row| row_cells(row) == Some(cells)), "{rows:?}");
        assert!(screen.iter().any(|line| line.contains("■ data 41 MiB")), "{screen:?}");
        let bar = screen.iter().find(|line| line.starts_with("allocation: [")).unwrap();
        assert!(bar.ends_with(']') && bar.contains('▁'), "{bar}");
    }
}

#[test]
fn a_copy_shows_how_far_it_is_and_an_interrupt_cleans_up() {
    let folder = Folder::new();
    folder.raw("disk.raw", 640 << 20, &[(400 << 20, noise(1, 8 << 20))]);
    let program = env!("CARGO_BIN_EXE_block-img");
    // With all there is to say, the line would be longer than the terminal is wide.
    let script = format!("{program} convert -r 1M -O vdi disk.raw out.vdi; echo status $?");
    let Some(terminal) = Terminal::running(&folder, 80, &script) else { return };
    terminal.screen(" left, ");
    // Shown some times more, it is still one line.
    std::thread::sleep(Duration::from_millis(500));
    let screen = terminal.screen(" left, ");
    let shown: Vec<&String> = screen.iter().filter(|line| !line.is_empty()).collect();
    // Either way of saying it, by how much room the numbers before it leave.
    let ends = ["400 MiB zeros", "400 MiB of zeros skipped"];
    assert!(shown.len() == 1 && ends.iter().any(|end| shown[0].ends_with(end)), "{shown:?}");
    let pressed = terminal.tmux().args(["send-keys", "C-c"]).status().unwrap();
    assert!(pressed.success());
    let screen = terminal.screen("status ").join("\n");
    assert!(screen.contains("status 130"), "{screen}");
    assert!(screen.contains("interrupted; what was unfinished is being removed"), "{screen}");
    assert!(folder.leftovers().is_empty() && !folder.file("out.vdi").exists());
}
