//! `ls`, `stat`, `rm` and `gc`, and how the other commands open an object.

use std::io::{self, Write};

use shoal::{Observer, Options};

use crate::interrupt;
use crate::object::{Object, facts};
use crate::output::{Failure, Format, Paint, Progress, has_colours, plain, say, width};
use crate::table::{self, Column, Row, number, text};

/// How many processes `ls` shows by name; the others are counted.
const NAMED: usize = 4;

/// `shoal ls`
#[derive(clap::Args)]
pub(crate) struct Ls {
    /// Only objects whose name begins with this
    prefix: Option<String>,
    #[command(flatten)]
    format: Format,
}

impl Ls {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let objects = objects(&mut Observer::new(0), self.prefix.as_deref())?;
        let rows: Vec<Row> = objects.iter().map(row).collect();
        self.format.print(&objects, |out| {
            let lines = table::lines(&COLUMNS, &rows, width(), has_colours());
            lines.iter().try_for_each(|line| writeln!(out, "{line}"))
        })
    }
}

/// The objects whose names begin with `prefix`.
pub(crate) fn objects(
    observer: &mut Observer,
    prefix: Option<&str>,
) -> Result<Vec<Object>, Failure> {
    let mut all = observer.look()?;
    if let Some(prefix) = prefix {
        all.retain(|it| it.info.name.starts_with(prefix));
    }
    Ok(all.into_iter().map(Object::new).collect())
}

const COLUMNS: [Column; 7] = [
    text("NAME", 0),
    text("KIND", 1),
    text("STATE", 2),
    number("LEN", 1),
    number("MEMORY", 3),
    number("AT MOST", 5),
    text("ATTACHED", 4),
];

fn row(it: &Object) -> Row {
    let cells = vec![
        plain(&it.name),
        it.kind().to_owned(),
        it.state.to_owned(),
        it.depth(),
        crate::output::bytes(it.committed_bytes),
        crate::output::bytes(it.max_bytes),
        it.attached(NAMED),
    ];
    let paint = it.paint();
    Row { cells, paint }
}

/// `shoal stat NAME`
#[derive(clap::Args)]
pub(crate) struct Stat {
    /// The object's name
    name: String,
    #[command(flatten)]
    format: Format,
}

impl Stat {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let object = Object::new(shoal::observe(&self.name)?);
        self.format.print(&object, |out| show(&object, out))
    }
}

/// Prints all that is known about an object.
pub(crate) fn show(it: &Object, out: &mut dyn Write) -> io::Result<()> {
    let colours = has_colours();
    for (what, value) in facts(it) {
        let paint = if what == "state" {
            it.paint()
        } else {
            Paint::Plain
        };
        writeln!(out, "{what:9} {}", paint.on(&value, colours))?;
    }
    for who in &it.participants {
        let (slot, pid, command) = (who.slot, who.pid, plain(&who.command));
        writeln!(out, "  slot {slot:4}  pid {pid:7}  {command}")?;
    }
    Ok(())
}

/// Opens an object, by the function of its type.
pub(crate) fn open<T>(
    name: &str,
    open: impl FnOnce(&str) -> shoal::Result<T>,
) -> Result<T, Failure> {
    check(name)?;
    Ok(open(name)?)
}

/// Opens an object, or creates it if it is missing and `create` is set. It then stays until `shoal rm` removes it.
pub(crate) fn open_or_create<T>(
    name: &str,
    create: bool,
    with_options: impl FnOnce(Option<&str>, &Options) -> shoal::Result<T>,
) -> Result<T, Failure> {
    let options = match create {
        true => Options::create().persistent(),
        false => {
            check(name)?;
            Options::open()
        }
    };
    Ok(with_options(Some(name), &options)?)
}

/// Fails if no object `name` can be opened. An object that killed processes left counts as missing, because opening
/// it would remove it.
fn check(name: &str) -> Result<(), Failure> {
    let info = shoal::stat(name)?;
    if info.stale {
        let why = "was left by killed processes: `shoal stat` shows it, `shoal gc` removes it";
        return Err(Failure::Missing(format!("{:?} {why}", plain(name))));
    }
    info.problem.map_or(Ok(()), |why| Err(why.into()))
}

/// `shoal rm NAME…`
#[derive(clap::Args)]
pub(crate) struct Rm {
    /// The objects' names
    #[arg(required = true)]
    names: Vec<String>,
}

impl Rm {
    /// Removes all that it can, and returns the first failure.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut first = Ok(());
        for name in &self.names {
            interrupt::check()?;
            if let Err(err) = shoal::unlink(name) {
                if first.is_err() {
                    say(err);
                } else {
                    first = Err(err.into());
                }
            }
        }
        first
    }
}

/// `shoal gc`
#[derive(clap::Args)]
pub(crate) struct Gc {
    /// Only print what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    format: Format,
}

impl Gc {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let (mut removed, mut progress) = (Vec::new(), Progress::new());
        shoal::gc_each(self.dry_run, |name| {
            removed.push(name.to_owned());
            progress.tick(|| format!("{} objects", removed.len()));
            interrupt::signal().is_none()
        })?;
        drop(progress);
        self.format.print(&removed, |out| {
            for name in &removed {
                writeln!(out, "{}", plain(name))?;
            }
            Ok(())
        })?;
        interrupt::check()
    }
}
