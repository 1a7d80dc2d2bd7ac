//! The zygote as a program of its own, for programs that cannot enter it themselves
//! (tests, whose `main` belongs to their harness).

fn main() {
    sandlot_node::enter_if_called();
    eprintln!("sandlot-zygote is started by a node, not by people");
    std::process::exit(2);
}
