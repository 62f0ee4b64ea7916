// Command peer is a mesos-go v0 process for the interop tests: it says on stdout what it receives, one JSON object a
// line, and does what it is told on stdin, likewise. interop/README.md has the protocol.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/gogo/protobuf/proto"
	log "github.com/golang/glog"
	mesos "github.com/mesos/mesos-go/api/v0/mesosproto"
	"github.com/mesos/mesos-go/api/v0/messenger"
	"github.com/mesos/mesos-go/api/v0/upid"
	"golang.org/x/net/context"
)

// mesos-go names a message after its Go type, as mesos.internal.<type>: hence one type per message name, all with the
// same fields, and no code from a protobuf compiler.

// A Note is recorded, and that is all.
type Note struct {
	Seq  *int64  `protobuf:"varint,1,req,name=seq"`
	Text *string `protobuf:"bytes,2,req,name=text"`
}

// A Question is recorded and answered with an Answer of the same fields.
type Question struct {
	Seq  *int64  `protobuf:"varint,1,req,name=seq"`
	Text *string `protobuf:"bytes,2,req,name=text"`
}

// An Answer is recorded, and that is all.
type Answer struct {
	Seq  *int64  `protobuf:"varint,1,req,name=seq"`
	Text *string `protobuf:"bytes,2,req,name=text"`
}

func (m *Note) Reset()             { *m = Note{} }
func (m *Note) String() string     { return proto.CompactTextString(m) }
func (*Note) ProtoMessage()        {}
func (m *Question) Reset()         { *m = Question{} }
func (m *Question) String() string { return proto.CompactTextString(m) }
func (*Question) ProtoMessage()    {}
func (m *Answer) Reset()           { *m = Answer{} }
func (m *Answer) String() string   { return proto.CompactTextString(m) }
func (*Answer) ProtoMessage()      {}

type event struct {
	Event string `json:"event"`
	Pid   string `json:"pid"`
	Name  string `json:"name,omitempty"`
	Seq   int64  `json:"seq"`
	Text  string `json:"text,omitempty"`
}

type command struct {
	To    string `json:"to"`
	Name  string `json:"name"`
	Count int64  `json:"count"`
	Text  string `json:"text"`
}

var printing sync.Mutex

func say(e event) {
	printing.Lock()
	defer printing.Unlock()
	if err := json.NewEncoder(os.Stdout).Encode(e); err != nil {
		log.Exit(err)
	}
}

func send(m messenger.Messenger, to *upid.UPID, message proto.Message) {
	if err := m.Send(context.Background(), to, message); err != nil {
		log.Errorf("failed to send to %v: %v", to, err)
	}
}

func install(m messenger.Messenger, message proto.Message, handler messenger.MessageHandler) {
	if err := m.Install(handler, message); err != nil {
		log.Exit(err)
	}
}

func build(name string, seq int64, text string) (proto.Message, error) {
	switch name {
	case "Note":
		return &Note{&seq, &text}, nil
	case "Question":
		return &Question{&seq, &text}, nil
	}
	return nil, fmt.Errorf("no message %q to send", name)
}

func main() {
	// glog writes files to the temporary directory unless told otherwise.
	flag.Set("logtostderr", "true")
	port := flag.String("port", "0", "the port to listen on; 0 for a free one")
	flag.Parse()

	m := messenger.NewHttp(upid.UPID{ID: "go(1)", Host: "127.0.0.1", Port: *port})
	install(m, &Note{}, func(from *upid.UPID, message proto.Message) {
		got := message.(*Note)
		say(event{"got", from.String(), "Note", *got.Seq, *got.Text})
	})
	install(m, &Question{}, func(from *upid.UPID, message proto.Message) {
		got := message.(*Question)
		say(event{"got", from.String(), "Question", *got.Seq, *got.Text})
		send(m, from, &Answer{got.Seq, got.Text})
	})
	install(m, &Answer{}, func(from *upid.UPID, message proto.Message) {
		got := message.(*Answer)
		say(event{"got", from.String(), "Answer", *got.Seq, *got.Text})
	})
	// mesos-go tells a process of a failed send in this way, and tells nobody when no handler is there.
	install(m, &mesos.InternalNetworkError{}, func(_ *upid.UPID, message proto.Message) {
		say(event{Event: "network error", Pid: message.(*mesos.InternalNetworkError).GetPid()})
	})
	if err := m.Start(); err != nil {
		log.Exit(err)
	}
	say(event{Event: "ready", Pid: m.UPID().String()})

	commands := json.NewDecoder(os.Stdin)
	for {
		var c command
		if err := commands.Decode(&c); err == io.EOF {
			return
		} else if err != nil {
			log.Exit(err)
		}
		to, err := upid.Parse(c.To)
		if err != nil {
			log.Exit(err)
		}
		for seq := int64(0); seq < c.Count; seq++ {
			message, err := build(c.Name, seq, c.Text)
			if err != nil {
				log.Exit(err)
			}
			send(m, to, message)
		}
	}
}
