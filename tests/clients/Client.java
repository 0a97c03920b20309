// Client.java BASE SCRIPT VARIANT: Java's HttpClient, which asks to upgrade to HTTP/2 by default ("http2") or does not
// ("http1"), and HttpURLConnection ("connection"). A body is sent whole, or as a stream, which goes out in chunks.

import java.io.ByteArrayInputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;

public class Client {
    static void show(int status, byte[] body) {
        System.out.println(status + " " + Base64.getEncoder().encodeToString(body));
    }

    static void byClient(HttpClient client, URI uri, String method, String form, byte[] body) throws Exception {
        HttpRequest.BodyPublisher publisher =
            form.equals("none") ? BodyPublishers.noBody()
            : form.equals("plain") ? BodyPublishers.ofByteArray(body)
            : BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body));
        HttpRequest.Builder request = HttpRequest.newBuilder(uri).method(method, publisher);
        if (!form.equals("none"))
            request.header("Content-Type", "application/json");
        var reply = client.send(request.build(), BodyHandlers.ofByteArray());
        show(reply.statusCode(), reply.body());
    }

    static void byConnection(URI uri, String method, String form, byte[] body) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setRequestMethod(method);
        if (!form.equals("none")) {
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setDoOutput(true);
            if (form.equals("stream"))
                connection.setChunkedStreamingMode(1000);
            else
                connection.setFixedLengthStreamingMode(body.length);
            try (OutputStream out = connection.getOutputStream()) {
                out.write(body);
            }
        }
        int status = connection.getResponseCode();
        try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            show(status, in == null ? new byte[0] : in.readAllBytes());
        }
    }

    public static void main(String[] arguments) throws Exception {
        String base = arguments[0], variant = arguments[2];
        HttpClient client = HttpClient.newBuilder()
            .version(variant.equals("http2") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1).build();
        for (String line : Files.readAllLines(Path.of(arguments[1]))) {
            String[] words = line.split(" ");
            byte[] body = words[2].equals("none") ? new byte[0] : Files.readAllBytes(Path.of(words[3]));
            if (variant.equals("connection"))
                byConnection(URI.create(base + words[1]), words[0], words[2], body);
            else
                byClient(client, URI.create(base + words[1]), words[0], words[2], body);
        }
    }
}
