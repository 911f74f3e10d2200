-- A map or features whose database session broke get 503, which HAProxy asks of another server.
--
-- MapServer answers with an exception, by 200 or 400, and in it says only that a query failed. Why
-- it failed stands in what it says on stderr, and that is in lighttpd's log before the answer
-- starts: so the log is a file, emptied here, and passed on to the container's log. An exception
-- is small and whole by now (one record of FastCGI); of anything larger the body is not looked at.
local LOG, WHOLE, SECONDS = "/run/gislab/log", 8192, 1
local BROKEN = { -- as libpq says it; a query that was wrong or too slow is none of these
    "Database connection failed", "connection gone bad", "No open connection",
    "server closed the connection", "connection has been closed", "terminating connection",
    "could not receive data", "could not send data", "no connection to the server",
    "conflict with recovery", "EOF detected",
}

local function fresh()
    local file = io.open(LOG)
    local text = file and file:read("*a") or ""
    if file then file:close() end
    if text ~= "" then
        io.open(LOG, "w"):close()
        local container = io.open("/proc/1/fd/2", "a")
        if container then
            container:write(text)
            container:close()
        end
    end
    -- it comes in pieces, each a line of lighttpd's
    return (text:gsub("\n[%d%-]+ [%d:]+: %(mod_fastcgi[^)]*%) FastCGI%-stderr:", ""))
end

local said, now, broke = fresh(), os.time(), false
for _, words in ipairs(BROKEN) do
    broke = broke or said:find(words, 1, true) ~= nil
end
if broke then
    _G.broken_at = now
elseif said:find("msPostGIS", 1, true) or now - (_G.broken_at or 0) > SECONDS then
    return 0 -- only where nothing is said may it have been read with another's answer
end

local r = lighty.r
local kind, size = r.resp_header["Content-Type"] or "", r.resp_body.len
if kind:find("xml", 1, true) then
    if size and size <= WHOLE and r.resp_body.get:find("msPostGIS", 1, true) then return 503 end
elseif broke and size then -- an exception as a picture, if the client wants that and it is whole
    local query = (r.req_attr["uri.query"] or ""):lower()
    if query:find("exceptions=[^&]*inimage") or query:find("exceptions=[^&]*blank") then
        return 503
    end
end
return 0
