//! Project tasks.

mod header;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["header"] => header::header(false),
        ["header", "--check"] => header::header(true),
        _ => Err("usage: cargo xtask header [--check]".to_owned()),
    };
    if let Err(err) = done {
        eprintln!("{err}");
        std::process::exit(1);
    }
}
