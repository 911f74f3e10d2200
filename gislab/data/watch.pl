# What a Pi says of itself: one line for each change, until whoever listens has gone.
#
# gislab/watch.py sends this text to perl on a Pi, with %S before it. Perl, since it is a part of
# every Debian (perl-base is essential) and speaks to sockets: no process is started for any look.
# Three streams tell by themselves (the kernel's addresses, Docker's events, a blocking query of
# Consul); the rest is asked some times a second, each on a connection to this very Pi.
#
# A line: seconds since this machine's start, kind, what, state, with tabs between; or the seconds
# alone, four times a second, which says that nothing has changed.
use strict;
use warnings;
use Errno qw(EINPROGRESS EAGAIN EINTR);
use IO::Handle;
use Socket;
our %S;

open my $clock, '<', '/proc/uptime' or die "/proc/uptime: $!";
open my $routes, '<', '/proc/net/fib_trie' or die "/proc/net/fib_trie: $!";
my (%told, $index);

# The kernel may hand out such a file in pieces: it is read to its end.
sub again {
    my ($file, $text) = (shift, '');
    sysseek $file, 0, 0;
    1 while sysread $file, $text, 4096, length $text;
    $text;
}
sub now { sysseek $clock, 0, 0; sysread $clock, my $text, 64; substr $text, 0, index $text, ' ' }
sub say_line { my $line = join("\t", now(), @_) . "\n"; syswrite STDOUT, $line or exit }

sub tell_state {
    my ($kind, $what, $state) = @_;
    return if ($told{"$kind\t$what"} // "\0") eq $state;
    $told{"$kind\t$what"} = $state;
    say_line($kind, $what, $state);
}

# An address is this machine's own if the kernel delivers it here: no `ip`, no process.
sub look_at_vip {
    my $own = again($routes) =~ /\|-- \Q$S{vip}\E\n(?:\s+\/\d+ \w+ \w+\n)*?\s+\/32 host LOCAL/;
    tell_state('vip', '', $own ? 'here' : 'away');
}

# The kernel tells of each address that comes and goes, also between two looks (rtnetlink(7)): 16 is
# AF_NETLINK, 0x10 the group RTMGRP_IPV4_IFADDR, 20 and 21 the messages RTM_NEWADDR and RTM_DELADDR,
# 2 the attribute IFA_LOCAL. Where that cannot be had, there are the looks.
my $addresses;
socket $addresses, 16, SOCK_RAW, 0 and bind $addresses, pack('SSLL', 16, 0, 0, 0x10)
    or undef $addresses;
my $vip = pack('SS', 8, 2) . inet_aton($S{vip});

sub hear_of_addresses {
    defined recv $addresses, my $text, 1 << 16, 0 or return;
    while (length $text >= 16) {
        my ($length, $type) = unpack 'LS', $text;
        last if $length < 16;
        my $message = substr $text, 0, ($length + 3) & ~3, '';
        next if index($message, $vip) < 0 || $type != 20 && $type != 21;
        tell_state('vip', '', $type == 20 ? 'here' : 'away');
    }
}

# HAProxy's statistics as CSV (Management Guide, 9.1): 0 backend, 1 server, 17 status, 32 type
sub servers {
    for (split /\n/, $_[1]) {
        my @field = split /,/, $_, 34;
        next unless @field > 32 && $field[32] eq '2' && $field[17] =~ /^(\w+)/;
        my $what = "$field[0]/$field[1]";
        # a place in a server-template that nobody has taken yet is no news
        tell_state('server', $what, $1) unless $1 eq 'MAINT' && !exists $told{"server\t$what"};
    }
}

sub consul_leader {
    return unless $_[0] == 200;
    tell_state('consul_leader', '',
        $_[1] =~ /"Node":\s*"([^"]+)",\s*"Address":\s*"[^"]*",\s*"Leader":\s*true/ ? $1 : '');
}

# The answer comes when the lock changes (Consul, "Blocking Queries"); 404: nobody holds it.
sub lock_holder {
    my ($status, $body, $head) = @_;
    my ($new) = $head =~ /^X-Consul-Index: (\d+)/mi;
    $index = defined $new && $new > 0 && $new >= ($index // 0) ? $new : undef;
    tell_state('primary', '', $status == 200 ? $body : '') if $status == 200 || $status == 404;
}

# Without a leader the answer is an error; a Pi that is no manager has none to tell.
sub swarm_leader {
    tell_state('swarm_leader', '',
        $_[1] =~ /"ManagerStatus":\{"Leader":true[^}]*"Addr":"([^":]+)/ ? $1 : '');
}

# gis_mapserver.2.<id> is mapserver.2; of a global service, with a Pi's id in place of 2, haproxy
sub task {
    my ($name, $state) = @_;
    my ($service, $slot) = $name =~ /^[^_]+_([\w-]+)\.(\w+)\.\w+$/ or return;
    tell_state('task', $slot =~ /^\d{1,4}$/ ? "$service.$slot" : $service, $state);
}

my $name = qr/"com\.docker\.swarm\.task\.name":"([^"]+)"/;

sub running {
    my ($status, $body) = @_;
    if ($status == 200) { task($1, 'running') while $body =~ /$name/g }
}

sub event {
    my ($what) = $_[0] =~ /$name/;
    my ($action) = $_[0] =~ /"Action":"(\w+)/;
    task($what, $action) if $what && $action;
}

my $statistics = pack_sockaddr_in($S{stats}, inet_aton($S{address}));
my $consul = pack_sockaddr_in($S{consul}, inet_aton('127.0.0.1'));
my $docker = pack_sockaddr_un($S{docker});
my $token = "X-Consul-Token: $S{token}\r\n";
# every: seconds from one question to the next; limit: to an answer; part: what is silent then
my @asks = (
    {part => 'haproxy', every => 0.2, limit => 1, to => $statistics, done => \&servers,
     get => sub { ('/;csv', "Authorization: Basic $S{login}\r\n") }},
    {part => 'consul', every => 0.5, limit => 1, to => $consul, done => \&consul_leader,
     get => sub { ('/v1/operator/raft/configuration?stale', $token) }},
    {every => 0.05, limit => 15, to => $consul, done => \&lock_holder,
     get => sub { ("$S{lock}?stale&raw&wait=10s" . ($index ? "&index=$index" : ''), $token) }},
    {part => 'docker', every => 1, limit => 3, to => $docker, done => \&swarm_leader,
     get => sub { ($S{nodes}, '') }},
    {every => 1e9, limit => 5, to => $docker, done => \&running, get => sub { ($S{running}, '') }},
    {every => 1, to => $docker, line => \&event, get => sub { ($S{events}, '') }},
);

sub begin {
    my $ask = shift;
    @$ask{qw(since sent got)} = (now(), 0, '');
    my $family = sockaddr_family($ask->{to});
    socket my $socket, $family, SOCK_STREAM, 0 or return end($ask);
    $socket->blocking(0);
    $ask->{socket} = $socket;
    # a frozen program has its kernel take connections until its queue is full: never wait here
    connect $socket, $ask->{to} or $! == EINPROGRESS or end($ask);
}

sub send_request {
    my $ask = shift;
    my ($path, $header) = $ask->{get}->();
    $ask->{sent} = syswrite $ask->{socket}, "GET $path HTTP/1.0\r\nHost: localhost\r\n$header\r\n"
        or end($ask);
}

sub receive {
    my $ask = shift;
    my $count = sysread $ask->{socket}, $ask->{got}, 1 << 18, length $ask->{got};
    return if !defined $count && ($! == EAGAIN || $! == EINTR);
    return end($ask) unless $count;
    # a stream: its lines count as they come, its head is none of them
    if ($ask->{line}) { $ask->{line}->("$1") while $ask->{got} =~ s/^([^\n]*)\n// }
}

sub end {
    my $ask = shift;
    close delete $ask->{socket} if $ask->{socket};
    $ask->{next} = now() + $ask->{every};
    my ($status) = $ask->{got} =~ m{^HTTP/1\.\d (\d+)};
    tell_state($ask->{part}, '', $status ? 'answers' : 'silent') if $ask->{part};
    return unless $status && $ask->{done};
    my ($head, $body) = split /\r?\n\r?\n/, $ask->{got}, 2;
    $ask->{done}->($status, $body // '', $head);
}

my ($look, $beat) = (0, 0);
while (1) {
    my $now = now();
    if ($now >= $look) { look_at_vip(); $look = $now + 0.1 }
    if ($now >= $beat) {
        alarm 60;    # a minute in one write: the network is cut, and nobody listens any more
        say_line();
        $beat = $now + 0.25;
    }
    my ($read, $write) = ('', '');
    vec($read, 0, 1) = 1;
    vec($read, fileno $addresses, 1) = 1 if $addresses;
    for my $ask (@asks) {
        end($ask) if $ask->{socket} && $ask->{limit} && $now > $ask->{since} + $ask->{limit};
        begin($ask) if !$ask->{socket} && $now >= ($ask->{next} // 0);
        next unless $ask->{socket};
        vec($ask->{sent} ? $read : $write, fileno $ask->{socket}, 1) = 1;
    }
    my $pause = $look - $now;    # the clock goes by hundredths: to ask it more often is to spin
    select($read, $write, undef, $pause > 0.01 ? $pause : 0.01) >= 0 or next;
    # nothing is ever said to this program but that the session has ended
    if (vec $read, 0, 1) { sysread STDIN, my $word, 1 << 16 or exit }
    hear_of_addresses() if $addresses && vec $read, fileno $addresses, 1;
    for my $ask (@asks) {
        next unless $ask->{socket};
        my $number = fileno $ask->{socket};
        if (vec $write, $number, 1) { send_request($ask) }
        elsif (vec $read, $number, 1) { receive($ask) }
    }
}
