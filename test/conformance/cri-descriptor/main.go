// Prints the messages and enums of the CRI's own descriptor as JSON, for cri-descriptor.test.ts.
package main

import (
	"encoding/json"
	"os"

	"google.golang.org/protobuf/reflect/protoreflect"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type field struct {
	Number   int    `json:"number"`
	Kind     string `json:"kind"`
	Repeated bool   `json:"repeated"`
	// The message or enum, without the package; of a map, its key and value.
	Type string `json:"type,omitempty"`
}

type descriptor struct {
	Messages map[string]map[string]field `json:"messages"`
	Enums    map[string]map[string]int   `json:"enums"`
	// Full method name to its messages; true where the answers are a stream.
	Methods map[string]method `json:"methods"`
}

type method struct {
	Request  string `json:"request"`
	Response string `json:"response"`
	Stream   bool   `json:"stream"`
}

func main() {
	file := (&runtime.VersionRequest{}).ProtoReflect().Descriptor().ParentFile()
	out := descriptor{map[string]map[string]field{}, map[string]map[string]int{}, map[string]method{}}
	out.enums(file.Enums())
	out.messages(file.Messages())
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		for j := range service.Methods().Len() {
			m := service.Methods().Get(j)
			out.Methods["/"+string(service.FullName())+"/"+string(m.Name())] = method{
				local(m.Input()), local(m.Output()), m.IsStreamingServer(),
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		panic(err)
	}
}

func (d descriptor) messages(messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		if message.IsMapEntry() {
			continue
		}
		fields := map[string]field{}
		for j := range message.Fields().Len() {
			f := message.Fields().Get(j)
			fields[string(f.Name())] = describe(f)
		}
		d.Messages[local(message)] = fields
		d.enums(message.Enums())
		d.messages(message.Messages())
	}
}

func (d descriptor) enums(enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		values := map[string]int{}
		for j := range enums.Get(i).Values().Len() {
			value := enums.Get(i).Values().Get(j)
			values[string(value.Name())] = int(value.Number())
		}
		d.Enums[local(enums.Get(i))] = values
	}
}

func describe(f protoreflect.FieldDescriptor) field {
	out := field{Number: int(f.Number()), Kind: f.Kind().String(), Repeated: f.IsList()}
	switch {
	case f.IsMap():
		out.Kind = "map"
		out.Type = f.MapKey().Kind().String() + "," + f.MapValue().Kind().String()
	case f.Enum() != nil:
		out.Type = local(f.Enum())
	case f.Message() != nil:
		out.Type = local(f.Message())
	}
	return out
}

// local is a name without the package's.
func local(d protoreflect.Descriptor) string {
	return string(d.FullName())[len(string(d.ParentFile().Package()))+1:]
}
