//! What has been put or set is kept, whichever process created the object, and whichever processes end.

use crate::machine::Machine;
use crate::maps::reads;
use crate::queues::leased;
use crate::server::Server;

#[test]
fn a_put_and_a_set_that_returned_are_kept_although_a_program_opened_the_objects_first() {
    for is_killed in [false, true] {
        let mut server = Server::start();
        server.kill();
        let mut here = Machine::new(&server, &["--queue", "jobs", "--map", "config"]);
        let mut program = here.agent();
        assert_eq!(program.ask("len jobs"), "0");
        assert_eq!(program.ask("count config"), "0");
        here.start();
        here.wait_for("the bridge", |report| report.role == "active");
        assert_eq!(program.ask("put jobs hello 1000"), "ok");
        assert_eq!(program.ask("set config key value"), "ok");
        // No process has the objects open after this.
        program.kill();
        match is_killed {
            true => here.kill(),
            false => assert_eq!(here.terminate(), Some(0)),
        }
        server.resume();
        here.start();
        let mut program = here.agent();
        let (_, _, message) = leased(&program.ask("lease jobs 30000"));
        assert_eq!(message, "hello");
        reads(&mut program, "key", |value| value.ends_with(" value"));
    }
}
