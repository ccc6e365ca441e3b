//! A live screen: it takes over the terminal, and restores it however the command ends.

use std::io::{self, Write};
use std::sync::Once;
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};

use signal_hook::consts::SIGINT;

use crate::interrupt;
use crate::output::{Failure, Stdout, done};
use crate::table::cut;

/// The terminal, until dropped.
pub(crate) struct Screen {
    /// What each line shows now.
    lines: Vec<String>,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Quit,
    Char(char),
    /// Lines down; up if it is negative.
    Scroll(isize),
    Redraw,
}

impl Screen {
    pub(crate) fn new() -> Result<Self, Failure> {
        // Restore the terminal first, so that the message of a panic stays visible.
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        enable_raw_mode().map_err(Failure::Output)?;
        let screen = Self { lines: Vec::new() };
        execute!(io::stdout(), EnterAlternateScreen, Hide).map_err(Failure::Output)?;
        Ok(screen)
    }

    /// Columns and lines.
    pub(crate) fn size(&self) -> (usize, usize) {
        let (columns, lines) = size().unwrap_or((80, 24));
        (usize::from(columns).max(1), usize::from(lines).max(1))
    }

    /// Shows `lines`, and writes only those that have changed.
    pub(crate) fn draw(&mut self, lines: Vec<String>) -> Result<(), Failure> {
        let (_, height) = self.size();
        let mut out = io::BufWriter::new(Stdout::new());
        let mut draw = || {
            if self.lines.is_empty() {
                queue!(out, Clear(ClearType::All))?;
            }
            for (y, line) in lines.iter().take(height).enumerate() {
                if self.lines.get(y) != Some(line) {
                    let y = u16::try_from(y).unwrap_or(u16::MAX);
                    queue!(out, MoveTo(0, y))?;
                    write!(out, "{line}")?;
                    queue!(out, Clear(ClearType::UntilNewLine))?;
                }
            }
            if lines.len() < self.lines.len() {
                let y = u16::try_from(lines.len()).unwrap_or(u16::MAX);
                queue!(out, MoveTo(0, y), Clear(ClearType::FromCursorDown))?;
            }
            out.flush()
        };
        done(draw())?;
        self.lines = lines;
        Ok(())
    }

    /// The next key within `time`.
    ///
    /// # Errors
    /// A signal ends the command, and so does Ctrl-C, which is no signal while the screen exists.
    pub(crate) fn key(&mut self, time: Duration) -> Result<Option<Key>, Failure> {
        let end = Instant::now() + time;
        loop {
            interrupt::check()?;
            let left = end.saturating_duration_since(Instant::now());
            // In slices: a signal does not end the wait for a key.
            let slice = left.min(Duration::from_millis(100));
            if event::poll(slice).map_err(Failure::Input)? {
                let event = event::read().map_err(Failure::Input)?;
                if is_ctrl_c(&event) {
                    return Err(Failure::Signal(SIGINT));
                }
                if let Some(key) = self.meaning(&event) {
                    return Ok(Some(key));
                }
            } else if left.is_zero() {
                return Ok(None);
            }
        }
    }

    fn meaning(&mut self, event: &Event) -> Option<Key> {
        let page = self.size().1.saturating_sub(5).max(1) as isize;
        let key = match event {
            Event::Resize(..) => {
                self.lines.clear();
                return Some(Key::Redraw);
            }
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            _ => return None,
        };
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('d') if is_control => Some(Key::Quit),
            KeyCode::Char('l') if is_control => {
                self.lines.clear();
                Some(Key::Redraw)
            }
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char(c) if !is_control => Some(Key::Char(c)),
            KeyCode::Down => Some(Key::Scroll(1)),
            KeyCode::Up => Some(Key::Scroll(-1)),
            KeyCode::PageDown => Some(Key::Scroll(page)),
            KeyCode::PageUp => Some(Key::Scroll(-page)),
            KeyCode::Home => Some(Key::Scroll(-isize::MAX)),
            KeyCode::End => Some(Key::Scroll(isize::MAX)),
            _ => None,
        }
    }
}

fn is_ctrl_c(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    is_control && key.code == KeyCode::Char('c') && key.kind != KeyEventKind::Release
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Failures are ignored: the command ends, and the terminal may be gone.
fn restore() {
    let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

/// Moves `top`, the first of `height` visible rows out of `count`, by `by` within its bounds. Returns the visible
/// rows.
pub(crate) fn window(
    top: &mut usize,
    by: isize,
    height: usize,
    count: usize,
) -> std::ops::Range<usize> {
    *top = top
        .saturating_add_signed(by)
        .min(count.saturating_sub(height));
    *top..count.min(*top + height)
}

/// A line cut to the width of the screen.
pub(crate) fn fit(line: &str, columns: usize) -> String {
    cut(line, columns)
}
