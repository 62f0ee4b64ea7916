%% The Erlang side of `erlang_peer.py`: registered processes on two distributed nodes.
-module(bench_peer).
-export([main/1]).

-define(CYCLE, 997).

main([Role, Number, Size, Address, InFlight]) ->
    Bodies = bodies(list_to_integer(Size)),
    play(Role, list_to_integer(Number), Bodies, Address, list_to_integer(InFlight)),
    halt(0).

play("sink", Number, Bodies, _, _) ->
    register(sink, self()),
    ready(),
    Cpu = cpu(),
    {Seconds, Wrong} = take(Number, Bodies, 0, 0, 0),
    report(Number, Seconds, os:system_time(nanosecond) / 1.0e9, Cpu, Wrong =:= 0, []),
    wait_for_end();
play("source", Number, Bodies, Address, _) ->
    Node = connect(Address),
    Cpu = go(),
    Began = now_ns(),
    give({sink, Node}, Number, Bodies, 0),
    wait_for_end(),
    report(Number, (now_ns() - Began) / 1.0e9, 0.0, Cpu, true, []);
play("echo", _, _, _, _) ->
    Main = self(),
    register(echo, spawn(fun echo/0)),
    ready(),
    Cpu = cpu(),
    spawn(fun() -> wait_for_end(), Main ! ended end),
    receive ended -> ok end,
    report(0, 0.0, 0.0, Cpu, true, []);
play("caller", Number, Bodies, Address, InFlight) ->
    Node = connect(Address),
    Cpu = go(),
    Began = now_ns(),
    First = min(InFlight, Number),
    Asked = lists:foldl(fun(At, Queue) -> queue:in(ask(Node, Bodies, At), Queue) end, queue:new(), lists:seq(0, First - 1)),
    {Latencies, Wrong} = call(Node, Number, Bodies, Asked, First, 0, [], 0),
    Seconds = (now_ns() - Began) / 1.0e9,
    Sorted = lists:sort(Latencies),
    P50 = lists:nth(length(Sorted) div 2 + 1, Sorted) / 1.0e3,
    P99 = lists:nth(min(length(Sorted), length(Sorted) * 99 div 100 + 1), Sorted) / 1.0e3,
    report(Number, Seconds, 0.0, Cpu, Wrong =:= 0, [{"p50_us", P50}, {"p99_us", P99}]),
    wait_for_end().

%% The same bodies as `common.bodies_of`.
bodies(Size) ->
    Printable = list_to_binary(lists:seq(32, 126)),
    Filler = binary:copy(Printable, Size div 95 + 1),
    list_to_tuple([begin
        Start = list_to_binary(io_lib:format("00~6..0B", [At])),
        binary:copy(binary:part(<<Start/binary, Filler/binary>>, 0, Size))
    end || At <- lists:seq(0, ?CYCLE - 1)]).

take(Number, Bodies, 0, _, Wrong) ->
    receive {item, Body} -> take(Number, Bodies, 1, now_ns(), wrong(Body, Bodies, 0, Wrong)) end;
take(Number, _, Number, Began, Wrong) ->
    {(now_ns() - Began) / 1.0e9, Wrong};
take(Number, Bodies, At, Began, Wrong) ->
    receive {item, Body} -> take(Number, Bodies, At + 1, Began, wrong(Body, Bodies, At, Wrong)) end.

wrong(Body, Bodies, At, Wrong) ->
    case element(At rem ?CYCLE + 1, Bodies) of
        Body -> Wrong;
        _ -> Wrong + 1
    end.

give(_, Number, _, Number) -> ok;
give(To, Number, Bodies, At) ->
    To ! {item, element(At rem ?CYCLE + 1, Bodies)},
    give(To, Number, Bodies, At + 1).

echo() ->
    receive {ping, From, Body} -> From ! {pong, Body} end,
    echo().

ask(Node, Bodies, At) ->
    {echo, Node} ! {ping, self(), element(At rem ?CYCLE + 1, Bodies)},
    now_ns().

call(_, Number, _, _, _, Number, Latencies, Wrong) -> {Latencies, Wrong};
call(Node, Number, Bodies, Asked, Sent, At, Latencies, Wrong) ->
    receive {pong, Body} ->
        {{value, Began}, Rest} = queue:out(Asked),
        Took = now_ns() - Began,
        {Next, NowSent} = case Sent < Number of
            true -> {queue:in(ask(Node, Bodies, Sent), Rest), Sent + 1};
            false -> {Rest, Sent}
        end,
        call(Node, Number, Bodies, Next, NowSent, At + 1, [Took | Latencies], wrong(Body, Bodies, At, Wrong))
    end.

connect(Address) ->
    Node = list_to_atom(Address),
    true = net_kernel:connect_node(Node),
    Node.

ready() -> io:format("{\"ready\": \"~s ~s\"}~n", [os:getenv("ERL_EPMD_PORT"), node()]).

go() ->
    io:format("{\"ready\": \"\"}~n"),
    io:get_line(""),
    cpu().

wait_for_end() ->
    case io:get_line("") of
        eof -> ok;
        {error, _} -> ok;
        _ -> wait_for_end()
    end.

%% Ended: the wall clock at the last message, from the driver's go to which is what counts; 0 when Seconds do.
report(Count, Seconds, Ended, Cpu, Ok, Values) ->
    Shown = lists:join(", ", [io_lib:format("\"~s\": ~.3f", [Name, Value]) || {Name, Value} <- Values]),
    io:format("{\"result\": {\"count\": ~B, \"seconds\": ~.9f, \"ended\": ~.6f, \"cpu\": ~.6f, \"rss\": ~B, \"ok\": ~s, \"values\": {~s}}}~n",
              [Count, Seconds, Ended, cpu() - Cpu, peak_bytes(), atom_to_list(Ok), Shown]).

cpu() -> element(1, erlang:statistics(runtime)) / 1.0e3.

now_ns() -> erlang:monotonic_time(nanosecond).

peak_bytes() ->
    case file:read_file("/proc/self/status") of
        {ok, Text} ->
            {match, [KiB]} = re:run(Text, "VmHWM:\\s+(\\d+)", [{capture, all_but_first, list}]),
            list_to_integer(KiB) * 1024;
        _ -> 0
    end.
