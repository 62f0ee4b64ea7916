"""The manual's fragment on PIDs; added: the checks."""

from compactor.pid import PID
pid = PID.from_string('slave(1)@192.168.33.2:5051')

# added
assert (pid.id, pid.ip, pid.port) == ('slave(1)', '192.168.33.2', 5051)
pid = PID.from_string('master(1)@192.168.33.2:5051')
assert str(pid) == 'master(1)@192.168.33.2:5051'
