"""The proxy against raw neighbours. "Pitfall 6" in a test's docstring is the sixth of these, each seen in a real proxy:

 1. A URL library rewrites paths and queries.
 2. Joining a target to the upstream's URL leads to other hosts.
 3. The client decodes answers, and their headers no longer fit.
 4. The server decodes requests.
 5. Framing and hop-by-hop headers are copied.
 6. A kept connection dies just when it is used; the client repeats what must not be repeated.
 7. The same race with the caller's kept connections.
 8. The wait for a free connection has no end.
 9. Time-outs and buffers break event streams.
10. Kept connections never notice that DNS changed.
11. The caller leaves, and the work goes on or is lost.
12. A cookie jar passes cookies between callers.
13. Redirects are followed, credentials with them.
14. Libraries add headers of their own.
15. The caller's Host means nothing to the upstream.
16. Forwarded headers are believed, or garbled; loops.
17. Expect: 100-continue waits for ever.
18. HEAD, 204 and 304 get a body, or lose their length.
19. Limits of lines, fields and bodies are in the way, and their errors are misreported.
20. A truncated answer looks whole.
21. Trailers and early hints.
22. Upgrades pass half.
23. The end cuts requests in flight.
24. Slow readers fill the memory.
25. Error pages and logs repeat the request.
26. Reading JSON holds up everybody else.
"""
