//! `cargo xtask cpython-tests`: runs the standard library's own tests of `multiprocessing` and of executors on
//! `shoal.multiprocessing`.

use crate::command::{cargo, program, run, run_for_long};
use crate::files::target;
use crate::python::{self, Environment};

/// The options of the task: the interpreter, and the arguments of the judge.
fn options<'a>(args: &[&'a str]) -> Result<(&'a str, Vec<&'a str>), String> {
    let (mut interpreter, mut rest) = ("python3", Vec::new());
    let mut words = args.iter().flat_map(|arg| arg.splitn(2, '=')).peekable();
    while let Some(word) = words.next() {
        match word {
            "--python" | "--only" if words.peek().is_none_or(|it| it.starts_with('-')) => {
                return Err(format!("{word} needs a value"));
            }
            "--python" => interpreter = words.next().unwrap_or_default(),
            other if other.starts_with('-') && other != "--only" => {
                return Err(format!("{other:?} is none of --python NAME, --only WORD"));
            }
            other => rest.push(other),
        }
    }
    Ok((interpreter, rest))
}

/// Runs `tests/cpython/judge.py` with an interpreter whose standard library contains the tests.
pub(crate) fn run_tests(args: &[&str]) -> Result<(), String> {
    let (interpreter, args) = options(args)?;
    run(&mut cargo("build --quiet --release --lib"))?;
    let environment = Environment::prepare(interpreter)?;
    environment.install()?;
    let mut judge = program(environment.python(), "tests/cpython/judge.py --folder");
    run_for_long(
        judge
            .arg(
                target()
                    .join("cpython")
                    .join(python::folder_name(interpreter)),
            )
            .args(args),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_are_named_before_the_build() {
        let (interpreter, rest) = options(&["fork", "--only", "Queue", "--python=pypy3"]).unwrap();
        assert_eq!(
            (interpreter, rest),
            ("pypy3", vec!["fork", "--only", "Queue"])
        );
        assert_eq!(options(&[]), Ok(("python3", vec![])));
        for (args, why) in [
            (&["--python"][..], "--python needs a value"),
            (&["--python", "--only", "Queue"], "--python needs a value"),
            (&["fork", "--only"], "--only needs a value"),
            (&["--pyhton", "pypy3"], "\"--pyhton\" is none"),
        ] {
            let error = options(args).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
