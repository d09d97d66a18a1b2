# Lists the targets of a Makefile: "##@ text" begins a section, "target: ... ## text" is one line of it.
BEGIN { FS = ":.*## "; print "Usage: make TARGET" }
/^##@ / { printf "\n%s\n", substr($0, 5) }
/^[a-z-]+:.*## / { printf "  %-12s %s\n", $1, $2 }
