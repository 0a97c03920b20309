# man.awk: the text of `dien-server --help` as a manual page of section 8. Usage: awk -v version=VERSION -f man.awk
function escape(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    sub(/^[.]/, "\\\\\\&&", text)
    return text
}
function section(name) { print ".SH " name }
BEGIN {
    print ".\\\" Made from --help by deploy/man.awk."
    print ".TH DIEN-SERVER 8 \"\" \"dien-server " version "\""
    print ".nh"
    section("NAME")
    print "dien\\-server \\- score candidate items with a Deep Interest Evolution Network over HTTP"
    section("SYNOPSIS")
}
/^Usage: / {
    print ".B dien\\-server\n\\-\\-model\n.I DIRECTORY\n.RI [ option ...]"
    section("DESCRIPTION")
    next
}
# "  --name VALUE   help": VALUE is in capitals, or a choice with bars.
/^  --/ {
    if (!options++)
        section("OPTIONS")
    name = $1
    rest = substr($0, index($0, name) + length(name) + 1)
    value = ""
    if ($2 ~ /^[A-Z]+(\|.*)?$/ || $2 ~ /\|/) {
        value = $2
        rest = substr(rest, index(rest, value) + length(value) + 1)
    }
    sub(/^ +/, "", rest)
    print ".TP\n.B " escape(name) (value != "" ? " \\fI" escape(value) "\\fR" : "")
    print escape(rest) "."
    next
}
/^ +\[default / {
    line = $0
    gsub(/^ +\[|\]$/, "", line)
    split(line, part, "; DIEN_")
    sub(/^d/, "D", part[1])
    print ".br\n" escape(part[1]) "; environment: \\fBDIEN_" part[2] "\\fR."
    next
}
/^$/ { next }
{
    if (options && !environment++)
        section("ENVIRONMENT")
    print escape($0)
}
END {
    section("EXIT STATUS")
    print ".TP\n.B 0\nAn orderly end."
    print ".TP\n.B 1\nThe server could not start, or its model was refused."
    print ".TP\n.B 2\nAn option is wrong; standard error names it."
    print ".TP\n.B 3\nA file of the model was truncated while it was served."
    section("SIGNALS")
    print "SIGTERM and SIGINT end it in order; a second one ends it at once. SIGHUP loads the model that --model names now. SIGUSR1, SIGUSR2 and SIGPIPE are ignored."
}
