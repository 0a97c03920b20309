// client.go BASE SCRIPT VARIANT: Go's net/http. A body is sent whole ("plain"), or through a pipe, a file or a reader of
// unknown length, each of which goes out in chunks.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func bodyOf(form, name, variant string) io.Reader {
	if form == "none" {
		return nil
	}
	content, err := os.ReadFile(name)
	check(err)
	if form == "plain" {
		return bytes.NewReader(content)
	}
	switch variant {
	case "file":
		file, err := os.Open(name)
		check(err)
		return file
	case "pipe":
		reader, writer := io.Pipe()
		go func() {
			for len(content) > 0 {
				size := 1000
				if size > len(content) {
					size = len(content)
				}
				_, err := writer.Write(content[:size])
				if err != nil {
					return
				}
				content = content[size:]
			}
			writer.Close()
		}()
		return reader
	}
	return io.MultiReader(bytes.NewReader(content))
}

func main() {
	base, variant := os.Args[1], os.Args[3]
	script, err := os.Open(os.Args[2])
	check(err)
	lines := bufio.NewScanner(script)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		request, err := http.NewRequest(words[0], base+words[1], bodyOf(words[2], words[3], variant))
		check(err)
		if words[2] != "none" {
			request.Header.Set("Content-Type", "application/json")
		}
		reply, err := http.DefaultClient.Do(request)
		check(err)
		body, err := io.ReadAll(reply.Body)
		check(err)
		reply.Body.Close()
		fmt.Println(reply.StatusCode, base64.StdEncoding.EncodeToString(body))
	}
}
